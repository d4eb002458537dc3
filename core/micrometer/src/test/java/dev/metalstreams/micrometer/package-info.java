/** Tests of the binders. */
@NullMarked
package dev.metalstreams.micrometer;

import org.jspecify.annotations.NullMarked;
