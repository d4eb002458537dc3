package dev.metalstreams.bindings;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/**
 * Counts the calls that are inside a device, so that it is not closed under them.
 *
 * <p><b>Invariant.</b> {@code state} is the number of calls inside, plus {@link #SHUT} once no more
 * may enter. A call enters by raising a state without {@code SHUT}, in one step; so when the state
 * is {@code SHUT} alone, nobody is inside and nobody will ever be.
 */
final class DeviceGate {
  private static final int SHUT = 1 << 31;

  private final AtomicInteger state = new AtomicInteger();

  /**
   * Begins a call, which ends with {@link #leave}.
   *
   * @throws DriverException if the gate is shut
   */
  void enter() {
    int before;
    do {
      before = state.get();
      if ((before & SHUT) != 0) {
        throw new DriverException(Status.INVALID_STATE, "the device is closed");
      }
    } while (!state.compareAndSet(before, before + 1));
  }

  void leave() {
    state.decrementAndGet();
  }

  /**
   * Lets nobody in any more and waits until nobody is inside.
   *
   * @param urge asks those inside to leave; run again and again, for one may have been about to
   *     wait
   * @return false if the gate was shut before, perhaps by a thread that still waits
   */
  boolean shut(Runnable urge) {
    int before;
    do {
      before = state.get();
      if ((before & SHUT) != 0) {
        return false;
      }
    } while (!state.compareAndSet(before, before | SHUT));
    boolean interrupted = false;
    while (state.get() != SHUT) {
      urge.run();
      LockSupport.parkNanos(this, 1_000_000);
      interrupted |= Thread.interrupted();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    return true;
  }
}
