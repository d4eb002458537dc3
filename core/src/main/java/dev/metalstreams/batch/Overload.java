package dev.metalstreams.batch;

/** What {@link BatchQueue#submit} does when the queue is full. */
public enum Overload {
  /** Throw {@link java.util.concurrent.RejectedExecutionException}. */
  REJECT,
  /** Wait for a place, but not beyond the request's deadline. */
  BLOCK,
  /** Serve the request alone, in the calling thread, on its current stream. */
  CALLER_RUNS
}
