package dev.metalstreams;

import java.lang.ref.Reference;
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
  private final DeviceStream stream;
  private final long bytes;
  private final Tenancy tenancy;

  /** Null while races are not looked for. */
  private final @Nullable Accesses accesses;

  DeviceBuffer(
      DeviceStream stream, Block block, long bytes, Leaks leaks, @Nullable Throwable site) {
    this.stream = stream;
    this.bytes = bytes;
    this.tenancy = new Tenancy(this, leaks, block, site);
    Hazards hazards = stream.hazards();
    this.accesses = hazards == null ? null : new Accesses(hazards);
  }

  /** Length in bytes, as asked for. */
  public long byteSize() {
    return bytes;
  }

  /** The device it belongs to. */
  public Device device() {
    return stream.device();
  }

  /** The stream it was allocated on. */
  public DeviceStream stream() {
    return stream;
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
   * <p>Call it before that work is queued: what is queued on the stream from then on runs after the
   * work that the memory's last tenant has left under way.
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws IllegalArgumentException if the stream belongs to another device
   * @throws StreamFailedException if the stream has failed and would have to wait for such work
   */
  public void recordStream(DeviceStream stream) {
    Objects.requireNonNull(stream, "stream");
    if (stream.device() != device()) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
    acquire(device());
    try {
      stream.follow(this);
      device().allocator().record(tenancy.block.uses, stream);
    } finally {
      release();
    }
  }

  /**
   * Gives the CPU the memory, after waiting until no work on the device uses it. Work on it that is
   * encoded while the view is open races with the CPU. (A view that stays open from batch to batch
   * comes from {@link #mapUnsafe}.)
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws StreamFailedException if work that used it failed
   * @throws StreamRaceException if another thread is encoding work on it, and races are looked for
   */
  public HostView map() {
    return view("map", true, true);
  }

  /**
   * As {@link #map}, for a look only: the view's bytes cannot be written, and work that only reads
   * the memory may be encoded while it is open.
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws StreamFailedException if work that used it failed
   * @throws StreamRaceException if another thread is encoding work that writes it, and races are
   *     looked for
   */
  public HostView mapReadOnly() {
    return view("mapReadOnly", false, true);
  }

  /**
   * Gives the CPU the memory without waiting: what the device still writes may come through at any
   * time, and what it still reads must not be overwritten. What is done through the view, and
   * encoded while it is open, is the caller's to order, for as long as it is open.
   *
   * @throws IllegalStateException if the buffer is closed
   * @throws StreamRaceException if work uses it that nobody has waited for, and races are looked
   *     for; {@link HazardMode#ORDER} waits
   */
  public HostView mapUnsafe() {
    HostView view = view("mapUnsafe", true, accesses != null && accesses.orders());
    view.leaveOrderToCaller();
    return view;
  }

  /** For operations of this library that map; their name is what a report of a race shows. */
  HostView view(String operation, boolean writes, boolean waits) {
    acquire(device());
    HostView view;
    try {
      view =
          new HostView(
              this,
              writes,
              accesses == null ? null : accesses.open(operation, this, writes, waits));
    } catch (RuntimeException e) {
      release();
      throw e;
    }
    if (waits) {
      try {
        awaitHostSafe();
      } catch (RuntimeException e) {
        view.close();
        throw e;
      }
    }
    return view;
  }

  private void awaitHostSafe() {
    Clock all = accesses == null ? Clock.ZERO : accesses.clock();
    try {
      device().allocator().awaitHostSafe(tenancy.block.uses);
    } catch (StreamFailedException e) {
      observed(all); // it has failed, but it is over
      throw e;
    }
    observed(all);
  }

  private void observed(Clock moment) {
    if (accesses != null) {
      accesses.observed(moment);
    }
  }

  /** Ends the use of this buffer. Does not wait. Idempotent. */
  @Override
  public void close() {
    try {
      if (tenancy.lifetime.close()) {
        device().allocator().closed(tenancy);
      }
    } finally {
      Reference.reachabilityFence(this); // else it might count as dropped before it is closed
    }
  }

  // ---- for streams and views: no one may use the handle without an acquire

  void acquire(Device by) {
    if (by != device()) {
      throw new IllegalArgumentException("the buffer belongs to another device");
    }
    if (!tenancy.lifetime.acquire()) {
      by.checkOpen();
      throw new IllegalStateException("the buffer is closed");
    }
    if (tenancy.lastUse != null) {
      tenancy.lastUse = new Throwable("last used here");
    }
  }

  void release() {
    try {
      if (tenancy.lifetime.release()) {
        device().allocator().closed(tenancy);
      }
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  long handle() {
    return tenancy.block.handle;
  }

  Tenancy tenancy() {
    return tenancy;
  }

  @Nullable Accesses accesses() {
    return accesses;
  }

  /** Notes a use at a value of a stream, whose lock is held; returns the length. */
  long usedBy(DeviceStream user, long value) {
    tenancy.block.uses.add(user, value);
    return bytes;
  }

  @Override
  public String toString() {
    return "buffer of " + bytes + " bytes on " + stream.label();
  }
}
