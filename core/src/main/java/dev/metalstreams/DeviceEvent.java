package dev.metalstreams;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.jspecify.annotations.Nullable;

/**
 * A point on the timeline of a stream: complete when everything encoded before it is.
 *
 * <p>An event is a pair of a stream and a number. It holds nothing, is never reset and needs no
 * close. It may be shared between threads, and any number of them may wait for it. On a closed
 * device a wait for an event that was not reached throws {@link DeviceClosedException}.
 */
public class DeviceEvent {
  private final DeviceStream stream;
  private final long value;

  /** What the race detector knows it as; null if there is none, or for the library's own waits. */
  private final @Nullable Stamp stamp;

  DeviceEvent(DeviceStream stream, long value) {
    this(stream, value, null);
  }

  DeviceEvent(DeviceStream stream, long value, @Nullable Stamp stamp) {
    this.stream = stream;
    this.value = value;
    this.stamp = stamp;
  }

  /** The stream that it was recorded on. */
  public final DeviceStream stream() {
    return stream;
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
    boolean reached = stream.timeline().reached(value);
    if (reached) {
      stream.observed(stamp);
    }
    return reached;
  }

  /**
   * Waits until it is complete; submits its work if need be.
   *
   * @throws StreamFailedException if its work failed
   * @throws WaitTimeoutException if the stream makes no progress for the time of the setting {@code
   *     wait.watchdog.ms}
   */
  public final void await() {
    stream.await(this, -1);
  }

  /**
   * Waits until it is complete, for at most a time; submits its work if need be.
   *
   * @throws StreamFailedException if its work failed
   * @throws WaitTimeoutException if the time runs out first
   */
  public final void await(Duration timeout) {
    stream.await(this, Device.nanos(timeout));
  }

  /**
   * A future that completes with the event, normally or with what {@link #await()} would throw;
   * submits its work if need be. What depends on it runs on a virtual thread, never on the
   * completion thread. Cancelling the future stops nothing on the device.
   */
  public final CompletableFuture<@Nullable Void> toFuture() {
    CompletableFuture<@Nullable Void> future = new CompletableFuture<>();
    stream.flushTo(value, 0);
    stream
        .timeline()
        .whenReached(
            value,
            () ->
                Thread.startVirtualThread(
                    () -> {
                      try {
                        stream.await(this, 0);
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
    if (start.stream.device() != end.stream.device()) {
      throw new IllegalArgumentException("the events belong to two devices");
    }
    return Duration.ofNanos(last.end() - first.end());
  }

  @Override
  public String toString() {
    return "event " + value + " of stream " + stream.index();
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
