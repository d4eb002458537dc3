package dev.metalstreams.batch;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.jspecify.annotations.Nullable;

/**
 * A batch function in two steps: the work is put on the device, and waited for later. So the worker
 * can put the next batch behind it meanwhile, and waits itself, once for a batch: no other thread
 * has to be woken before the results are there.
 */
interface Launcher<I, O> extends BatchFunction<I, O> {

  /** A batch that is on the device, in the hands of one thread at a time. */
  interface Flight<O> {

    /** Submits it, where that is still to be done; returns at once. */
    void flush();

    /** Waits for it, and submits it before. Throws what it failed of. */
    void await();

    /** The results, after {@link #await} has returned. Called at most once. */
    List<@Nullable O> results();

    /** Gives back what the batch holds, in place of {@link #results}. */
    void abandon();
  }

  /** Puts a batch on the current stream. */
  Flight<O> launch(Batch<I> batch) throws Exception;

  /** Both steps in one, for a thread that has nothing else to do. */
  @Override
  default CompletionStage<List<@Nullable O>> apply(Batch<I> batch) throws Exception {
    Flight<O> flight = launch(batch);
    boolean done = false;
    try {
      flight.await();
      done = true;
    } finally {
      if (!done) {
        flight.abandon();
      }
    }
    return CompletableFuture.completedFuture(flight.results());
  }
}
