package dev.metalstreams.driver;

import org.jspecify.annotations.Nullable;

/** Receives what {@link Driver#nextCompletions} took; called by that thread, during that call. */
@FunctionalInterface
public interface CompletionSink {

  /**
   * One command buffer is done.
   *
   * @param queueId the id given to {@link Driver#createQueue}
   * @param value the value that it signalled
   * @param gpuStartNanos when the device began it; 0 if it never ran
   * @param gpuEndNanos when the device ended it; 0 if it never ran
   * @param failure null if it succeeded
   */
  void completed(
      long queueId,
      long value,
      long gpuStartNanos,
      long gpuEndNanos,
      @Nullable CompletionFailure failure);
}
