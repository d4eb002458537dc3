package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import java.nio.ByteBuffer;

/**
 * A pattern in memory that nobody has, which the next tenant must find untouched: who writes after
 * the close is caught. Fresh memory has it too, so that what is read before it is written shows.
 */
final class Poison {
  /** As a float about -1.2e17, in no result. */
  private static final long PATTERN = 0xDBDBDBDBDBDBDBDBL;

  private static final long LARGEST_PART = 1 << 30;

  private Poison() {}

  /** Fills an unused block, whose size is a multiple of 8 bytes. */
  static void fill(Driver driver, Block block) {
    for (long start = 0; start < block.size; start += LARGEST_PART) {
      ByteBuffer part = part(driver, block, start);
      for (int i = 0; i < part.capacity(); i += Long.BYTES) {
        part.putLong(i, PATTERN);
      }
    }
  }

  /** The first byte, up to seven earlier, that is not as it was filled; -1 if there is none. */
  static long firstDamage(Driver driver, Block block) {
    for (long start = 0; start < block.size; start += LARGEST_PART) {
      ByteBuffer part = part(driver, block, start);
      for (int i = 0; i < part.capacity(); i += Long.BYTES) {
        if (part.getLong(i) != PATTERN) {
          return start + i;
        }
      }
    }
    return -1;
  }

  private static ByteBuffer part(Driver driver, Block block, long start) {
    return driver.contents(block.handle, start, (int) Math.min(block.size - start, LARGEST_PART));
  }
}
