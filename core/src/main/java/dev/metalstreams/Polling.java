package dev.metalstreams;

/**
 * How long a wait looks again and again before it blocks: as long as that has lately paid.
 *
 * <p>To look costs the processor; to block and be woken costs the waiter tens of microseconds. So a
 * stream whose waits are short looks for twice as long as the last one took, and each wait that is
 * longer than the limit halves the time, down to a small part of the limit. Every wait is measured,
 * those that blocked as well: when they become short again, so does the next wait's blocking.
 *
 * <p>Threads that share a stream share this without a lock; a lost update costs speed alone.
 */
final class Polling {
  /** The least is the limit shifted right by so much. */
  private static final int LEAST_SHIFT = 5;

  private final long limit;
  private volatile long nanos;

  /**
   * Polling for a stream.
   *
   * @param limitNanos the longest time; 0 blocks at once
   */
  Polling(long limitNanos) {
    this.limit = limitNanos;
    this.nanos = limitNanos;
  }

  /** How long the next wait is to look, in nanoseconds. */
  long nanos() {
    return nanos;
  }

  /** A wait took so long, whether it blocked or not. */
  void waited(long took) {
    nanos = took <= limit ? Math.min(limit, 2 * took) : Math.max(limit >> LEAST_SHIFT, nanos / 2);
  }
}
