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
  private static final VarHandle HELD;

  static {
    try {
      HELD = MethodHandles.lookup().findVarHandle(BriefLock.class, "held", boolean.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  @SuppressWarnings("UnusedVariable") // used through HELD
  private boolean held;

  void lock() {
    if (!HELD.compareAndSet(this, false, true)) {
      lockSlowly();
    }
  }

  @SuppressWarnings("ThreadPriorityCheck") // the holder may be waiting for this processor
  private void lockSlowly() {
    for (int tries = 0; !free() || !HELD.compareAndSet(this, false, true); tries++) {
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
    return !(boolean) HELD.getOpaque(this);
  }

  void unlock() {
    HELD.setRelease(this, false);
  }
}
