package dev.metalstreams.safetensors;

import java.util.Map;

/**
 * A header that has been found sound.
 *
 * @param tensors by name, in the order of the header
 * @param metadata free text
 */
record Header(Map<String, StoredTensor> tensors, Map<String, String> metadata) {}
