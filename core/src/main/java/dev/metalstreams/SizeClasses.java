package dev.metalstreams;

/**
 * The sizes in which memory is cached: powers of two up to 4 KiB, then eight sizes for each
 * doubling up to 256 MiB, so that above 4 KiB at most 12.5 % of a block is waste. Larger blocks are
 * <em>huge</em>: rounded to 16 KiB, and never cached.
 */
final class SizeClasses {
  private static final int LEAST_SHIFT = 8;
  private static final int FINE_SHIFT = 12;
  private static final int MOST_SHIFT = 28;
  private static final int COARSE = FINE_SHIFT - LEAST_SHIFT + 1;
  private static final int STEPS_SHIFT = 3;
  private static final int STEPS = 1 << STEPS_SHIFT;

  private static final long HUGE_GRAIN = 16 << 10;

  /** How many classes there are. */
  static final int COUNT = COARSE + (MOST_SHIFT - FINE_SHIFT) * STEPS;

  /** The class of huge blocks. */
  static final int HUGE = -1;

  /** Blocks up to this size are counted as small, larger ones as large. */
  static final long SMALL = 1 << 20;

  private SizeClasses() {}

  /** The class that serves a request. */
  static int of(long bytes) {
    if (bytes <= 1L << LEAST_SHIFT) {
      return 0;
    }
    int exponent =
        63 - Long.numberOfLeadingZeros(bytes - 1); // 2^exponent < bytes <= 2^(exponent+1)
    if (exponent < FINE_SHIFT) {
      return exponent - LEAST_SHIFT + 1;
    }
    if (exponent >= MOST_SHIFT) {
      return HUGE;
    }
    int step = (int) ((bytes - 1) >>> (exponent - STEPS_SHIFT)) & (STEPS - 1);
    return COARSE + (exponent - FINE_SHIFT) * STEPS + step;
  }

  /** Bytes of a block of a class. */
  static long size(int sizeClass) {
    if (sizeClass < COARSE) {
      return 1L << (LEAST_SHIFT + sizeClass);
    }
    int fine = sizeClass - COARSE;
    int exponent = FINE_SHIFT + fine / STEPS;
    return (long) (STEPS + fine % STEPS + 1) << (exponent - STEPS_SHIFT);
  }

  /** Bytes of a huge block for a request. */
  static long hugeSize(long bytes) {
    return (bytes + HUGE_GRAIN - 1) & -HUGE_GRAIN;
  }
}
