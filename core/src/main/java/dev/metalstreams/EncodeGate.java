package dev.metalstreams;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Whether an encode of an executable is alone in the process, which it must be for {@link
 * dev.metalstreams.driver.Driver#ENCODE_SOLE}.
 *
 * <p>Invariants:
 *
 * <ul>
 *   <li>While an encode that {@link #enter} found {@link #SOLE} is under way, no other is. This
 *       rests on {@link #state} alone, whatever is known of streams.
 *   <li>The mode is not {@code FEW} while two worker streams are live: a stream becomes live, and
 *       the mode {@code MANY}, before anything can be encoded for its new user. So an encode that
 *       begins then is not sole; it waits for one that was under way.
 *   <li>In {@code MANY} an encode reads the state and writes nothing. It holds its stream's lock
 *       meanwhile, and reads after it took it. So when, after the state left {@code MANY}, every
 *       stream's lock was free once, no encode is under way that the state does not count. Only
 *       then does the mode become {@code FEW} again; in between it is {@code SETTLING}: counted,
 *       and not sole.
 * </ul>
 *
 * <p>A stream may be live a little longer than it is used, never shorter. Streams of all devices
 * count, because Apple's kernels share what is not safe in them across devices.
 */
class EncodeGate {
  /** What {@link #enter} found: others may be encoding, and were not counted. */
  static final int SHARED = 0;

  /** Others may be encoding. */
  static final int COUNTED = 1;

  /** Nobody else is encoding, until {@link #leave}. */
  static final int SOLE = 2;

  /** The gate of the process. */
  static final EncodeGate PROCESS = new EncodeGate();

  // The state: how many encodes are under way that are counted, whether that is a sole one, and the
  // mode.
  private static final int MODE = 3;
  private static final int FEW = 0;
  private static final int SETTLING = 1;
  private static final int MANY = 2;
  private static final int ALONE = 4;
  private static final int ONE = 8;

  private static final int SPINS = 64;
  private static final long PAUSE_NANOS = 20_000;

  private final AtomicInteger state = new AtomicInteger(FEW);

  /** Worker streams that are live. */
  private final AtomicInteger live = new AtomicInteger();

  private final List<StreamPool> pools = new CopyOnWriteArrayList<>();

  /** Held by the one thread that settles. */
  private final ReentrantLock settling = new ReentrantLock();

  // ---- encoding

  /**
   * About to encode an executable, with the stream's lock held. Waits for an encode of another
   * stream that is in the way, which takes as long as that one call of the driver.
   *
   * @return what {@link #leave} is to be told
   */
  int enter() {
    int turn = 0;
    int seen = state.get();
    while (true) {
      int mode = seen & MODE;
      boolean inTheWay = mode == FEW ? seen >= ONE : (seen & ALONE) != 0;
      if (inTheWay) {
        pause(turn++);
        seen = state.get();
      } else if (mode == MANY) {
        return SHARED;
      } else {
        int witness = state.compareAndExchange(seen, seen + ONE + (mode == FEW ? ALONE : 0));
        if (witness == seen) {
          return mode == FEW ? SOLE : COUNTED;
        }
        seen = witness;
      }
    }
  }

  /** Has encoded, or failed to. */
  void leave(int found) {
    if (found != SHARED) {
      state.addAndGet(found == SOLE ? -(ONE + ALONE) : -ONE);
    }
  }

  private static void pause(int turn) {
    if (turn < SPINS) {
      Thread.onSpinWait();
    } else {
      LockSupport.parkNanos(PAUSE_NANOS); // an interrupted thread spins on
    }
  }

  /** Whether an encode that began now would be sole. */
  boolean few() {
    return (state.get() & MODE) == FEW;
  }

  // ---- live streams

  /** One more worker stream is live; told before anything is encoded on it. */
  void arrived() {
    if (live.incrementAndGet() > 1) {
      many();
    }
  }

  /** One fewer is. The mode follows with {@link #settle}. */
  void departed() {
    live.decrementAndGet();
  }

  private void many() {
    state.updateAndGet(seen -> (seen & ~MODE) | MANY);
  }

  void add(StreamPool pool) {
    pools.add(pool);
  }

  void remove(StreamPool pool) {
    pools.remove(pool);
  }

  /**
   * Goes back to sole encodes if at most one worker stream is live; what keeps it from that is
   * looked for again next time. Never waits. Called now and then without a lock held.
   */
  void settle() {
    if (few() || live.get() > 1 || !settling.tryLock()) {
      return;
    }
    try {
      state.updateAndGet(seen -> (seen & MODE) == MANY ? (seen & ~MODE) | SETTLING : seen);
      if (live.get() > 1) {
        many(); // it may have come before there was a mode to change
        return;
      }
      if (allStreamsFree()) {
        // Not if the mode is MANY again: encodes that began meanwhile are not counted.
        state.updateAndGet(seen -> (seen & MODE) == SETTLING ? (seen & ~MODE) | FEW : seen);
      }
    } finally {
      settling.unlock();
    }
  }

  /** Whether the lock of each stream is free at some time during this call. */
  boolean allStreamsFree() {
    for (StreamPool pool : pools) {
      for (DeviceStream stream : pool.all()) {
        if (!stream.isFree()) {
          return false;
        }
      }
    }
    return true;
  }
}
