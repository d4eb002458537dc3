package dev.metalstreams.batch;

/** Why a batch was served when it was. */
public enum FlushReason {
  /** It was as large as it may be. */
  FULL,
  /** Its oldest request had waited for {@code maxDelay}. */
  DELAY,
  /** A request would have missed its deadline by waiting longer. */
  DEADLINE,
  /** A worker was idle and the queue does not wait ({@code maxDelay} is 0). */
  IDLE,
  /** The queue is closing. */
  DRAIN,
  /**
   * A request that failed with its batch was tried alone, or its submitter served it ({@link
   * Overload#CALLER_RUNS}).
   */
  ALONE
}
