package dev.metalstreams;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.concurrent.locks.LockSupport;

/**
 * A lock that is held for a few instructions, never across a wait, a downcall or a user's code.
 *
 * <p>Taking it costs one atomic operation and giving it back none, half of what a monitor costs,
 * which is most of the cost of an allocation. Who finds it taken looks again, gives up the
 * processor, and sleeps for moments in the end, since its holder may have lost its own.
 *
 * <p>Not reentrant. What is written before {@link #unlock} is seen after the next {@link #lock}.
 */
final class BriefLock {
  private static final int LOOKS = 64;
  private static final int YIELDS = 64;
  private static final long NAP_NANOS = 20_000;
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  /** 0, or 1 while it is held. */
  private final long[] words;

  private final int at;

  BriefLock() {
    this(new long[1], 0);
  }

  /** A lock that stands in the array of what it guards. */
  BriefLock(long[] words, int at) {
    this.words = words;
    this.at = at;
  }

  void lock() {
    if (!WORD.compareAndSet(words, at, 0L, 1L)) {
      lockSlowly();
    }
  }

  @SuppressWarnings("ThreadPriorityCheck") // the holder may be waiting for this processor
  private void lockSlowly() {
    for (int tries = 0; !free() || !WORD.compareAndSet(words, at, 0L, 1L); tries++) {
      if (tries < LOOKS) {
        Thread.onSpinWait();
      } else if (tries < LOOKS + YIELDS) {
        Thread.yield();
      } else {
        LockSupport.parkNanos(NAP_NANOS);
      }
    }
  }

  boolean free() {
    return (long) WORD.getOpaque(words, at) == 0;
  }

  void unlock() {
    WORD.setRelease(words, at, 0L);
  }
}
