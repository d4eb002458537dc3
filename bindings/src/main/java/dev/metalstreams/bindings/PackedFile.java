package dev.metalstreams.bindings;

import java.net.URL;

/**
 * A file that is packed as a resource.
 *
 * @param name what it is called when it is laid out on disk
 * @param source where its content is
 * @param sha256 of its content, 64 hexadecimal digits
 */
record PackedFile(String name, URL source, String sha256) {}
