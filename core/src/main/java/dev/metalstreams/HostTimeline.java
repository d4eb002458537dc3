package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import org.jspecify.annotations.Nullable;

/**
 * The timeline of a host queue. Its values are promised instead of committed: {@code submitted} is
 * the last one promised.
 */
class HostTimeline extends Timeline {
  private static final int NO_STREAM = -1;

  private final HostEvents events;
  private final long id;
  private final Driver driver;

  /** Why the promised value fails. Set before it is signalled, read once that is reported. */
  private volatile @Nullable Throwable reason;

  /** The last value reported. Of the completion thread alone. */
  private long told;

  HostTimeline(
      HostEvents events,
      long id,
      Driver driver,
      long queue,
      String name,
      long watchdogNanos,
      Polling polling) {
    super(driver, queue, name, NO_STREAM, watchdogNanos, polling);
    this.events = events;
    this.id = id;
    this.driver = driver;
  }

  /** The id of its queue. */
  final long id() {
    return id;
  }

  /** Promises the next value. The caller has the queue for himself. */
  final long promise() {
    long value = submitted() + 1;
    submitted(value);
    return value;
  }

  /**
   * Completes the promised value, and wakes who waits for it; who waits for a failure is woken by
   * the completion thread.
   *
   * @throws DriverException if the driver refuses
   */
  void signal(long value, @Nullable String failure, @Nullable Throwable cause) {
    if (!holdQueue()) {
      return; // the queue's end has told those who wait
    }
    try {
      reason = cause;
      driver.signal(queue(), value, failure);
    } finally {
      releaseQueue();
    }
    if (failure == null) {
      reached(value);
    }
  }

  /** Whether all that was signalled has been reported. On the completion thread. */
  final boolean toldAll() {
    return told == submitted();
  }

  @Override
  void complete(long value, GpuTimes times, @Nullable StreamFailedException failure) {
    super.complete(value, times, failure);
    told = value;
    if (failure != null) {
      events.failed(this);
    }
  }

  @Override
  StreamFailedException failure(
      long value, Status status, String message, @Nullable Throwable cause) {
    return super.failure(value, status, message, reason);
  }

  /** A wait that the close of the device has ended says so. */
  @Override
  void throwIfFailed(long value) {
    MetalStreamsException failure = failureAt(value);
    if (failure != null && failure.getCause() instanceof DeviceClosedException over) {
      throw new DeviceClosedException(String.valueOf(over.getMessage()));
    }
    super.throwIfFailed(value);
  }

  @Override
  String obstacle(long value) {
    return ", and nobody has signalled it";
  }

  @Override
  void endQueue() {
    try {
      super.endQueue();
    } catch (DriverException e) {
      events.kept(this, e);
    }
  }
}
