/** Fuzzing. */
@NullMarked
package dev.metalstreams.safetensors;

import org.jspecify.annotations.NullMarked;
