package dev.metalstreams;

import java.lang.ref.ReferenceQueue;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/**
 * Buffers that were dropped without a close: they come out of the reference queue here, once the
 * garbage collector has found that nobody can use, view or close them any more.
 */
final class Leaks {
  private static final int SAMPLE_MASK = 127;

  private final LeakLevel level;
  private final ReferenceQueue<DeviceBuffer> dropped = new ReferenceQueue<>();
  private final AtomicLong count = new AtomicLong();

  Leaks(LeakLevel level) {
    this.level = level;
  }

  /** Where tenancies go whose buffer is gone. */
  ReferenceQueue<DeviceBuffer> queue() {
    return dropped;
  }

  /** Where the n-th buffer of a stream is allocated, if that is to be known. */
  @Nullable Throwable site(long n) {
    if (level == LeakLevel.DISABLED || (level != LeakLevel.PARANOID && (n & SAMPLE_MASK) != 0)) {
      return null;
    }
    return new Throwable("allocated here");
  }

  /** Whether uses of a sampled buffer are noted. */
  boolean recordsUse() {
    return level.recordsUse();
  }

  /** A tenancy whose buffer is gone; null if there is none. */
  @Nullable Tenancy next() {
    return (Tenancy) dropped.poll();
  }

  /** A tenancy whose buffer is gone, waiting so long for one; null if there is none. */
  @Nullable Tenancy await(long millis) throws InterruptedException {
    return (Tenancy) dropped.remove(millis);
  }

  /** Counts a leak; returns what to tell, null if nothing is told. */
  @Nullable String found(Tenancy tenancy, boolean closed) {
    count.incrementAndGet();
    if (level == LeakLevel.DISABLED) {
      return null;
    }
    return "LEAK: a buffer of "
        + tenancy.block.size
        + " bytes on "
        + tenancy.block.uses.owner().label()
        + (closed
            ? " was closed, but a view of it was dropped without close(). "
            : " was dropped without close(). ")
        + (tenancy.site == null
            ? "Set memory.leaks=paranoid to learn where it was allocated."
            : "It was allocated here:");
  }

  /** How many there were. */
  long count() {
    return count.get();
  }
}
