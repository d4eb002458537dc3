/** Binders for Micrometer. */
@NullMarked
package dev.metalstreams.micrometer;

import org.jspecify.annotations.NullMarked;
