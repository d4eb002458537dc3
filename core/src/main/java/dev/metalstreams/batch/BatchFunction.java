package dev.metalstreams.batch;

import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * Serves a batch of requests.
 *
 * @param <I> a request
 * @param <O> its result
 */
@FunctionalInterface
public interface BatchFunction<I, O> {

  /**
   * Starts to serve a batch; called by a worker, with the worker's stream as the current one. It
   * may return before the work is done: up to the pipelining depth, the worker goes on with the
   * next batch meanwhile.
   *
   * @return a stage that ends with one result for each input, in their order; what is there for an
   *     input that was {@linkplain Batch#fail failed} is not looked at. If the stage, or this call,
   *     fails, all of the batch fails
   */
  CompletionStage<? extends List<? extends @Nullable O>> apply(Batch<I> batch) throws Exception;

  /** A function that does its work before it returns. */
  static <I, O> BatchFunction<I, O> of(Function<? super List<I>, ? extends List<O>> function) {
    Objects.requireNonNull(function, "function");
    return batch -> CompletableFuture.completedFuture(function.apply(batch.inputs()));
  }
}
