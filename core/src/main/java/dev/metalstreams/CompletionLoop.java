package dev.metalstreams;

import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.System.Logger.Level;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * Takes completions from the driver and tells the timelines, on one daemon platform thread for each
 * device.
 *
 * <p>Completions are pulled, in batches, by a call that blocks in native code: the driver never
 * calls into Java.
 *
 * <p>Invariant: completions reach a timeline in the order in which the driver gave them, so a
 * failure is kept before what depends on it and before its value counts as completed. The thread
 * waits for nothing but the driver, and nothing that it calls runs a user's code.
 *
 * <p>The duty cycle, {@link #drain}, is apart from the thread that runs it, so that tests call it
 * by hand.
 */
class CompletionLoop implements CompletionSink {
  /** How often the device's housekeeping is done, and longest wait for a completion. */
  private static final long TICK_NANOS = TimeUnit.MILLISECONDS.toNanos(50);

  /** So many refused calls in a row, and the device counts as lost. */
  private static final int MOST_REFUSALS = 8;

  private final Device device;
  private final Driver driver;
  private final Thread thread;
  private int refusals;
  private volatile boolean stopping;
  private long lastTick = System.nanoTime();

  CompletionLoop(Device device) {
    this.device = device;
    this.driver = device.driver();
    this.thread =
        Thread.ofPlatform()
            .name("metalstreams-completions")
            .daemon(true)
            .unstarted(this::runUntilStopped);
  }

  void start() {
    thread.start();
  }

  private void runUntilStopped() {
    try {
      while (!stopping) {
        drain(TICK_NANOS);
        long now = System.nanoTime();
        if (now - lastTick >= TICK_NANOS) {
          lastTick = now;
          device.tick();
        }
      }
      while (drain(0) > 0) {
        // What was reported before the stop is still told.
      }
    } catch (RuntimeException | Error e) {
      device.log(Level.ERROR, "the completion thread has died; every wait fails", e);
      device.lose(e);
    }
  }

  /** Takes one batch, waiting at most so long for it, and reclaims memory. */
  int drain(long timeoutNanos) {
    int count = 0;
    try {
      count = driver.nextCompletions(this, timeoutNanos);
      refusals = 0;
    } catch (DriverException e) {
      // A refused call has no effect: what it would have brought is still there for the next.
      refusals++;
      if (refusals == MOST_REFUSALS || e.status() == Status.DEVICE_LOST) {
        throw e;
      }
      device.log(Level.DEBUG, "completions were refused; trying again", e);
    }
    device.allocator().reclaim();
    return count;
  }

  @Override
  public void completed(
      long queueId,
      long value,
      long gpuStartNanos,
      long gpuEndNanos,
      @Nullable CompletionFailure failure) {
    Timeline timeline = device.timeline(queueId);
    if (timeline == null) {
      device.log(Level.ERROR, "completion of an unknown queue " + queueId, null);
      return;
    }
    timeline.complete(
        value,
        timeline.timed()
            ? new Timeline.GpuTimes(gpuStartNanos, gpuEndNanos)
            : Timeline.GpuTimes.UNASKED,
        failure == null ? null : failure(timeline, value, failure));
    if (failure != null && failure.status() == Status.DEVICE_LOST) {
      device.lose(Objects.requireNonNull(timeline.failureAt(value)));
    }
  }

  private StreamFailedException failure(Timeline timeline, long value, CompletionFailure failure) {
    MetalStreamsException cause = null;
    if (failure.status() == Status.DEPENDENCY) {
      Timeline first = device.timeline(failure.causeQueueId());
      cause = first == null ? null : first.failureAt(failure.causeValue());
    }
    return timeline.failure(value, failure.status(), failure.message(), cause);
  }

  /**
   * Ends the thread after everything reported so far has been told; true if it is over within the
   * time.
   */
  boolean stop(long timeoutNanos) {
    stopping = true;
    try {
      driver.wake();
    } catch (DriverException e) {
      device.log(Level.DEBUG, "the completion thread ends at its next tick", e);
    }
    boolean interrupted = false;
    long deadline = System.nanoTime() + timeoutNanos;
    try {
      while (thread.isAlive() && System.nanoTime() < deadline) {
        try {
          thread.join(java.time.Duration.ofNanos(Math.max(1, deadline - System.nanoTime())));
        } catch (InterruptedException e) {
          interrupted = true; // the close goes on; the flag is set again below
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
    return !thread.isAlive();
  }
}
