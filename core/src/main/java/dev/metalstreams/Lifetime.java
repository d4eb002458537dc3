package dev.metalstreams;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * A counted acquire with a close that may come at any time.
 *
 * <p>Invariant: the resource is freed exactly once, by whoever makes the state {@code CLOSED} with
 * a count of 0: the closer if nobody holds an acquire, else the last one to release. So nobody
 * waits for anybody, and nothing is freed between a check and the use it guards.
 *
 * <p>The state is one int: the sign bit says closed, the rest counts acquires. Reading and writing
 * it orders everything that holders did before the free.
 */
final class Lifetime {
  private static final int CLOSED = Integer.MIN_VALUE;
  private static final VarHandle STATE;

  static {
    try {
      STATE = MethodHandles.lookup().findVarHandle(Lifetime.class, "state", int.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  @SuppressWarnings("FieldMayBeFinal") // written through STATE
  private volatile int state;

  /** Takes one acquire; false if closed. */
  boolean acquire() {
    int seen = state;
    while (seen >= 0) {
      if (seen == Integer.MAX_VALUE) {
        throw new IllegalStateException("too many concurrent uses");
      }
      int witness = (int) STATE.compareAndExchange(this, seen, seen + 1);
      if (witness == seen) {
        return true;
      }
      seen = witness;
    }
    return false;
  }

  /** Gives one acquire back; true if the caller must free the resource. */
  boolean release() {
    return (int) STATE.getAndAdd(this, -1) - 1 == CLOSED;
  }

  /**
   * Closes; true if the caller must free the resource, false if it is closed already or the last
   * holder will free.
   */
  boolean close() {
    int seen = state;
    while (seen >= 0) {
      int witness = (int) STATE.compareAndExchange(this, seen, seen | CLOSED);
      if (witness == seen) {
        return seen == 0;
      }
      seen = witness;
    }
    return false;
  }

  boolean closed() {
    return state < 0;
  }

  /**
   * Closes and forgets every acquire, for a resource whose closer and holders have all gone without
   * a word; true if the caller must free it.
   */
  boolean abandon() {
    return (int) STATE.getAndSet(this, CLOSED) != CLOSED;
  }
}
