package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.jspecify.annotations.Nullable;

/**
 * A point on the timeline of a stream: complete when everything encoded before it is.
 *
 * <p>An event is a pair of a stream and a number; one that the CPU completes is a {@link
 * HostEvent}. It holds nothing, is never reset and needs no close. It may be shared between
 * threads, and any number of them may wait for it. On a closed device a wait for an event that was
 * not reached throws {@link DeviceClosedException}.
 */
public class DeviceEvent {
  /** Null: the host completes it. */
  private final @Nullable DeviceStream stream;

  private final Device device;
  private final Timeline timeline;
  private final long value;

  /** What the race detector knows it as; null if there is none, or for the library's own waits. */
  private final @Nullable Stamp stamp;

  DeviceEvent(DeviceStream stream, long value) {
    this(stream, value, null);
  }

  DeviceEvent(DeviceStream stream, long value, @Nullable Stamp stamp) {
    this.stream = stream;
    this.device = stream.device();
    this.timeline = stream.timeline();
    this.value = value;
    this.stamp = stamp;
  }

  /** An event of the host. The race detector knows nothing of it: see {@link HostEvent}. */
  DeviceEvent(Device device, Timeline timeline, long value) {
    this.stream = null;
    this.device = device;
    this.timeline = timeline;
    this.value = value;
    this.stamp = null;
  }

  /**
   * The stream that it was recorded on.
   *
   * @throws IllegalStateException if it is a {@link HostEvent}, which is on none
   */
  public final DeviceStream stream() {
    if (stream == null) {
      throw new IllegalStateException(this + " is on no stream: the host completes it");
    }
    return stream;
  }

  final Device device() {
    return device;
  }

  final Timeline timeline() {
    return timeline;
  }

  final boolean isOfHost() {
    return stream == null;
  }

  /** The same moment, for those who keep it. */
  DeviceEvent point() {
    return this;
  }

  /** Makes sure that its work is submitted. */
  final void submit() {
    if (stream != null) {
      stream.flushTo(value, Driver.COMMIT_DEFAULT);
    }
  }

  /** Whether it is complete. As {@link #query}, and tells nobody. */
  final boolean isOver() {
    return timeline.reached(value);
  }

  /** The timeline value that it waits for. */
  public final long value() {
    return value;
  }

  @Nullable Stamp stamp() {
    return stamp;
  }

  /** Whether it is complete, in success or failure. Does not submit, never blocks. */
  public final boolean query() {
    boolean over = isOver();
    if (over && stream != null) {
      stream.observed(stamp);
    }
    return over;
  }

  /**
   * Waits until it is complete; submits its work if need be.
   *
   * @throws StreamFailedException if its work failed
   * @throws WaitTimeoutException if the stream makes no progress for the time of the setting {@code
   *     wait.watchdog.ms}
   */
  public final void await() {
    await(-1);
  }

  /**
   * Waits until it is complete, for at most a time; submits its work if need be.
   *
   * @throws StreamFailedException if its work failed
   * @throws WaitTimeoutException if the time runs out first
   */
  public final void await(Duration timeout) {
    await(Device.nanos(timeout));
  }

  private void await(long timeoutNanos) {
    if (stream != null) {
      stream.await(this, timeoutNanos);
    } else {
      timeline.awaitReached(value, timeoutNanos);
      timeline.throwIfFailed(value);
    }
  }

  /**
   * A future that completes with the event, normally or with what {@link #await()} would throw;
   * submits its work if need be. What depends on it runs on a virtual thread, never on the
   * completion thread. Cancelling the future stops nothing on the device.
   */
  public final CompletableFuture<@Nullable Void> toFuture() {
    CompletableFuture<@Nullable Void> future = new CompletableFuture<>();
    DeviceEvent point = point();
    submit();
    timeline.whenReached(
        value,
        () ->
            Thread.startVirtualThread(
                () -> {
                  try {
                    point.await(0);
                    future.complete(null);
                  } catch (RuntimeException | Error e) { // nothing may keep it from ending
                    future.completeExceptionally(e);
                  }
                }));
    return future;
  }

  /**
   * Time on the device between the completions of two events; negative if {@code end} came first.
   * Waits for both.
   *
   * @throws IllegalArgumentException if an event was not made by {@link DeviceStream#recordTimed},
   *     or if they are of two devices
   */
  public static Duration elapsed(DeviceEvent start, DeviceEvent end) {
    Objects.requireNonNull(start, "start");
    Objects.requireNonNull(end, "end");
    if (!(start instanceof Timed first) || !(end instanceof Timed last)) {
      throw new IllegalArgumentException("elapsed needs events made by recordTimed");
    }
    if (start.device != end.device) {
      throw new IllegalArgumentException("the events belong to two devices");
    }
    return Duration.ofNanos(last.end() - first.end());
  }

  @Override
  public String toString() {
    return "event " + value + " of " + timeline.name();
  }

  /** An event that keeps the GPU times of its command buffer. */
  static final class Timed extends DeviceEvent implements Timeline.TimedEvent {
    private final CompletableFuture<Timeline.GpuTimes> times = new CompletableFuture<>();

    Timed(DeviceStream stream, long value, @Nullable Stamp stamp) {
      super(stream, value, stamp);
    }

    @Override
    public void times(Timeline.GpuTimes gpu) {
      times.complete(gpu);
    }

    @Override
    public void none(MetalStreamsException why) {
      times.completeExceptionally(why);
    }

    private long end() {
      await();
      // The value can be seen a moment before the completion thread has brought the times.
      try {
        return times.join().end();
      } catch (CompletionException e) {
        throw e.getCause() instanceof MetalStreamsException end ? end : e;
      }
    }
  }
}
