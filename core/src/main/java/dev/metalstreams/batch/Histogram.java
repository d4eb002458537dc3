package dev.metalstreams.batch;

import java.util.concurrent.atomic.AtomicLongArray;

/**
 * Counts values of 0 or more in buckets, eight for each doubling, so that a quantile is at most
 * 12.5 % too large. Any thread may record at any time.
 */
final class Histogram {
  private static final int STEPS_SHIFT = 3;
  private static final int STEPS = 1 << STEPS_SHIFT;

  private final AtomicLongArray counts = new AtomicLongArray((Long.SIZE - STEPS_SHIFT) * STEPS);

  void record(long value) {
    counts.incrementAndGet(bucket(Math.max(value, 0)));
  }

  private static int bucket(long value) {
    if (value < STEPS) {
      return (int) value;
    }
    int exponent = Long.SIZE - 1 - Long.numberOfLeadingZeros(value);
    int step = (int) (value >>> (exponent - STEPS_SHIFT)) & (STEPS - 1);
    return (exponent - STEPS_SHIFT + 1) * STEPS + step;
  }

  /** The largest value of a bucket. */
  private static long top(int bucket) {
    if (bucket < STEPS) {
      return bucket;
    }
    int exponent = bucket / STEPS + STEPS_SHIFT - 1;
    return ((long) (STEPS + bucket % STEPS + 1) << (exponent - STEPS_SHIFT)) - 1;
  }

  /** The smallest bucket top that so many of the values do not exceed; 0 if there are none. */
  long quantile(double part) {
    long total = 0;
    for (int i = 0; i < counts.length(); i++) {
      total += counts.get(i);
    }
    long rank = Math.max(1, (long) Math.ceil(part * total));
    long seen = 0;
    for (int i = 0; i < counts.length(); i++) {
      seen += counts.get(i);
      if (seen >= rank) {
        return top(i);
      }
    }
    return 0;
  }
}
