/** Tests of the reader of safetensors files. */
@NullMarked
package dev.metalstreams.safetensors;

import org.jspecify.annotations.NullMarked;
