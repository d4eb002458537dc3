package dev.metalstreams;

import dev.metalstreams.driver.DriverException;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * An event that the CPU completes: streams wait for it on the device, before or after it is
 * signalled.
 *
 * <pre>{@code
 * HostEvent filled = device.hostEvent();
 * stream.waitFor(filled); // returns at once
 * layer.runInto(stream, inputs, outputs); // encoded, and held back on the device
 * ...
 * filled.signal(); // on any thread: what it has written by then is what the work sees
 * }</pre>
 *
 * <p>Of everything a {@link DeviceEvent} can do it can do all but two: it is on no {@link #stream},
 * and has no time on the device. It is signalled or failed once, and needs no close.
 *
 * <p><b>Thread-safety.</b> All methods may be called from any thread. Neither {@link #signal} nor
 * {@link #fail} blocks.
 *
 * <p><b>It is a promise.</b> Whoever waits for an event that nobody signals gets a {@link
 * WaitTimeoutException} from the watchdog, which names the event. An event that is dropped, so that
 * nobody can signal it any more, fails once the garbage collector has found it; one that is still
 * open when the close of its device begins fails then, and a wait for it throws {@link
 * DeviceClosedException}.
 *
 * <p>What keeps a thread from its {@code signal()} hangs: reading or mapping memory that the
 * waiting work uses, or encoding more than {@code stream.max.in.flight} command buffers behind it.
 * Memory that is to be written meanwhile is mapped with {@link DeviceBuffer#mapUnsafe}.
 *
 * <p>The race detector takes work to come after all that any thread has waited for when that work
 * is encoded. What a signal that is yet to be given will come after, it does not know.
 */
public final class HostEvent extends DeviceEvent {
  private final HostPromise promise;

  HostEvent(Device device, HostTimeline timeline, long value, HostEvents events) {
    super(device, timeline, value);
    this.promise = new HostPromise(this, timeline, value, events);
  }

  HostPromise promise() {
    return promise;
  }

  /** What streams keep: nothing that keeps the event from being found dropped. */
  @Override
  DeviceEvent point() {
    return new DeviceEvent(device(), timeline(), value());
  }

  /**
   * Completes the event: work that waits for it begins, and sees all that this thread has written.
   *
   * @throws IllegalStateException if it was signalled or failed before
   * @throws DeviceClosedException if the device was closed before
   * @throws MetalStreamsException if the driver refuses; the event is open as before
   */
  public void signal() {
    try {
      if (!promise.end(null)) {
        device().checkOpen();
        throw new IllegalStateException(this + " was signalled or failed before");
      }
    } catch (DriverException e) {
      throw device().translate(e, "signalling " + this);
    } finally {
      Reference.reachabilityFence(this); // it is not dropped while it is being signalled
    }
  }

  /**
   * Completes the event as a failure. Streams whose work waits for it fail; they and whoever waits
   * for the event get a {@link StreamFailedException} that has {@code cause} in its chain of
   * causes.
   *
   * @return false, and nothing has happened, if it was signalled or failed before; so an error
   *     handler may call it in any case
   * @throws MetalStreamsException if the driver refuses; the event is open as before
   */
  public boolean fail(Throwable cause) {
    Objects.requireNonNull(cause, "cause");
    try {
      return promise.end(cause);
    } catch (DriverException e) {
      throw device().translate(e, "failing " + this);
    } finally {
      Reference.reachabilityFence(this);
    }
  }
}
