/**
 * Tests of the batch queue: its line by hand, its promises under load, and rows of tensors on the
 * host shim.
 */
@NullMarked
package dev.metalstreams.batch;

import org.jspecify.annotations.NullMarked;
