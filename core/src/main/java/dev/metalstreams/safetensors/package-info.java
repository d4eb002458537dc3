/**
 * Reading tensors stored in <a href="https://github.com/huggingface/safetensors">safetensors</a>
 * files. Independent of any device.
 */
@NullMarked
package dev.metalstreams.safetensors;

import org.jspecify.annotations.NullMarked;
