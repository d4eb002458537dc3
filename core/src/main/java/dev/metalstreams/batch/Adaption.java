package dev.metalstreams.batch;

/**
 * Finds the batch size for a latency target: additive increase, multiplicative decrease, as in
 * congestion control, so that several queues on one device come to share it. Any thread may report.
 */
final class Adaption {
  private final long targetNanos;
  private final int most;
  private double limit = 1;

  Adaption(long targetNanos, int most) {
    this.targetNanos = targetNanos;
    this.most = most;
  }

  synchronized int limit() {
    return (int) limit;
  }

  /** A batch of this size took so long, from the submission of its oldest request to its result. */
  synchronized void served(int size, long nanos) {
    if (nanos > targetNanos) {
      limit = Math.max(1, limit * 0.75);
    } else if (size >= (int) limit) {
      limit = Math.min(most, limit + 1);
    }
  }
}
