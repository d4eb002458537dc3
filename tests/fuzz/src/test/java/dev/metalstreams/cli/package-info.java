/** Fuzzing. */
@NullMarked
package dev.metalstreams.cli;

import org.jspecify.annotations.NullMarked;
