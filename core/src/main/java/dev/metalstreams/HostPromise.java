package dev.metalstreams;

import dev.metalstreams.driver.DriverException;
import java.lang.ref.PhantomReference;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * What a {@link HostEvent} stands for, and what is left when it is dropped: a value of a host queue
 * that is still to be signalled.
 *
 * <p>Invariant: it is ended by one call, whoever makes the state {@code ENDING}. If the driver
 * refuses the signal, it is pending again, and once the device is closed, whoever makes it so tries
 * again.
 */
final class HostPromise extends PhantomReference<HostEvent> {
  private static final int MOST_TRIES = 4;

  private enum State {
    PENDING,
    ENDING,
    ENDED
  }

  private final HostTimeline timeline;
  private final long value;
  private final HostEvents events;
  private final AtomicReference<State> state = new AtomicReference<>(State.PENDING);

  HostPromise(HostEvent event, HostTimeline timeline, long value, HostEvents events) {
    super(event, events.dropped());
    this.timeline = timeline;
    this.value = value;
    this.events = events;
  }

  HostTimeline timeline() {
    return timeline;
  }

  boolean isPending() {
    return state.get() != State.ENDED;
  }

  /**
   * Signals the value, as a failure if there is a cause; false if somebody has done so, or is about
   * to.
   *
   * @throws DriverException if the driver refuses
   */
  boolean end(@Nullable Throwable cause) {
    try {
      return attempt(cause);
    } catch (DriverException e) {
      DeviceClosedException over = events.closed();
      if (over != null) {
        endForGood(over); // close() may have found it on its way
      }
      throw e;
    }
  }

  /** The same at the close of the device, when nobody else is to try again. */
  void endForGood(DeviceClosedException over) {
    for (int tries = 1; ; tries++) {
      try {
        attempt(over);
        return;
      } catch (DriverException e) {
        if (tries == MOST_TRIES) {
          events.refused(this, e);
          return;
        }
      }
    }
  }

  private boolean attempt(@Nullable Throwable cause) {
    String failure = cause == null ? null : cause.toString(); // first: it is a user's code
    if (!state.compareAndSet(State.PENDING, State.ENDING)) {
      return false;
    }
    State next = State.PENDING;
    try {
      timeline.signal(value, failure, cause);
      next = State.ENDED;
    } finally {
      state.set(next);
    }
    events.ended(this, cause == null);
    return true;
  }

  @Override
  public String toString() {
    return "event " + value + " of " + timeline.name();
  }
}
