/**
 * Batching: many small requests served by few large runs.
 *
 * <p>{@link dev.metalstreams.batch.BatchQueue} gathers requests for any function that takes a list;
 * {@link dev.metalstreams.batch.TensorBatcher} is one for rows of tensors and a compiled graph.
 */
@NullMarked
package dev.metalstreams.batch;

import org.jspecify.annotations.NullMarked;
