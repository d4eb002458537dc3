package dev.metalstreams;

import java.lang.ref.ReferenceQueue;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Memory that CPU and device both see.
 *
 * <p>Closing a buffer is safe at any time and from any thread, also while work on the device uses
 * it or another thread encodes with it: the memory is recycled when that is safe. Using a closed
 * buffer throws, whoever has the memory by then. A buffer that is dropped without a close is
 * reported, and its memory comes back after the next garbage collection.
 *
 * <p><b>Two kinds of free.</b> Work on the buffer's stream may follow other work on it at once: the
 * stream keeps the order. The CPU may touch it only when no work is left, which is what {@link
 * #map} waits for; that includes work of the memory's last tenant.
 */
public final class DeviceBuffer implements AutoCloseable {
  private final Device device;
  private final long bytes;
  private final Tenancy tenancy;

  DeviceBuffer(
      Device device,
      Block block,
      long bytes,
      ReferenceQueue<DeviceBuffer> leaks,
      @Nullable Throwable site) {
    this.device = device;
    this.bytes = bytes;
    this.tenancy = new Tenancy(this, leaks, block, site);
  }

  /** Length in bytes, as asked for. */
  public long byteSize() {
    return bytes;
  }

  /** The device it belongs to. */
  public Device device() {
    return device;
  }

  /** The stream it was allocated on. */
  public DeviceStream stream() {
    return tenancy.block.uses.owner();
  }

  /** Whether it is closed. */
  public boolean isClosed() {
    return tenancy.lifetime.closed();
  }

  /**
   * Tells that work on a stream uses this memory without this library's knowledge, as CUDA's {@code
   * recordStream}: the memory is not reused before all work that is queued on the stream at the
   * time of the <em>close</em> is done. Work encoded through this library needs no telling.
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws IllegalArgumentException if the stream belongs to another device
   */
  public void recordStream(DeviceStream stream) {
    Objects.requireNonNull(stream, "stream");
    if (stream.device() != device) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
    acquire(device);
    try {
      device.allocator().record(tenancy.block.uses, stream);
    } finally {
      release();
    }
  }

  /**
   * Gives the CPU the memory, after waiting until no work on the device uses it. Work encoded while
   * the view is open is the caller's to order.
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws StreamFailedException if work that used it failed
   */
  public HostView map() {
    HostView view = mapUnsafe();
    try {
      device.allocator().awaitHostSafe(tenancy.block.uses);
    } catch (RuntimeException e) {
      view.close();
      throw e;
    }
    return view;
  }

  /**
   * Gives the CPU the memory without waiting: what the device still writes may come through at any
   * time, and what it still reads must not be overwritten.
   *
   * @throws IllegalStateException if the buffer is closed
   */
  public HostView mapUnsafe() {
    acquire(device);
    return new HostView(this);
  }

  /** Ends the use of this buffer. Does not wait. Idempotent. */
  @Override
  public void close() {
    if (tenancy.lifetime.close()) {
      device.allocator().closed(tenancy);
    }
  }

  // ---- for streams and views: no one may use the handle without an acquire

  void acquire(Device by) {
    if (by != device) {
      throw new IllegalArgumentException("the buffer belongs to another device");
    }
    if (!tenancy.lifetime.acquire()) {
      device.checkOpen();
      throw new IllegalStateException("the buffer is closed");
    }
    if (tenancy.lastUse != null) {
      tenancy.lastUse = new Throwable("last used here");
    }
  }

  void release() {
    if (tenancy.lifetime.release()) {
      device.allocator().closed(tenancy);
    }
  }

  long handle() {
    return tenancy.block.handle;
  }

  Tenancy tenancy() {
    return tenancy;
  }

  /** Notes a use at a value of a stream, whose lock is held; returns the length. */
  long usedBy(DeviceStream stream, long value) {
    tenancy.block.uses.add(stream, value);
    return bytes;
  }

  @Override
  public String toString() {
    return "buffer of " + bytes + " bytes on " + stream().label();
  }
}
