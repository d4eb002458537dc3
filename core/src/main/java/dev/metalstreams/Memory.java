package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.System.Logger.Level;
import java.util.Iterator;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The memory of a device: one native buffer for each {@link DeviceBuffer}.
 *
 * <pre>
 *            allocate                close, no work left
 *   (driver) ────────► IN USE ─────────────────────────────► (driver)
 *                        │ close, work left                      ▲
 *                        ▼                                       │
 *                     PENDING ── every stream has passed ────────┘
 * </pre>
 *
 * <p>Invariant: a native buffer goes back to the driver only when {@link #unused} has said that
 * every stream has passed its last use, and exactly once. {@code allocated} counts IN USE, {@code
 * active} IN USE and PENDING. PENDING memory is given back by the completion thread as well as by
 * allocation, so that an idle process holds none.
 */
class Memory {
  private final Device device;
  private final Driver driver;

  private final Set<DeviceBuffer> inUse = ConcurrentHashMap.newKeySet();
  private final ConcurrentLinkedQueue<DeviceBuffer> pending = new ConcurrentLinkedQueue<>();
  private final ReentrantLock reclaiming = new ReentrantLock();

  private final AtomicLong allocated = new AtomicLong();
  private final AtomicLong active = new AtomicLong();
  private final AtomicLong peak = new AtomicLong();
  private final AtomicLong allocations = new AtomicLong();

  Memory(Device device) {
    this.device = device;
    this.driver = device.driver();
  }

  DeviceBuffer allocate(long bytes, DeviceStream stream) {
    long most = device.info().maxBufferBytes();
    if (bytes <= 0 || bytes > most) {
      throw new IllegalArgumentException(
          "a buffer has from 1 to " + most + " bytes on this device, not " + bytes);
    }
    long handle;
    device.enterDriver();
    try {
      handle = create(bytes);
    } finally {
      device.leaveDriver();
    }
    DeviceBuffer buffer = new DeviceBuffer(device, stream, handle, bytes);
    active.addAndGet(bytes);
    long now = allocated.addAndGet(bytes);
    peak.accumulateAndGet(now, Math::max);
    allocations.incrementAndGet();
    inUse.add(buffer);
    if (device.isClosed()) {
      // close() may have looked through `inUse` before this buffer was in it.
      buffer.close();
      throw new DeviceClosedException("the device is closed");
    }
    return buffer;
  }

  private long create(long bytes) {
    reclaim();
    DriverException refused;
    try {
      return driver.createBuffer(bytes);
    } catch (DriverException e) {
      refused = e;
    }
    // Wait for pending memory only where it could help, one block after the other.
    while (refused.status() == Status.OUT_OF_MEMORY && awaitPending()) {
      try {
        return driver.createBuffer(bytes);
      } catch (DriverException e) {
        refused = e;
      }
    }
    if (refused.status() != Status.OUT_OF_MEMORY) {
      throw device.translate(refused, "allocating " + bytes + " bytes");
    }
    throw new OutOfDeviceMemoryException(
        "cannot allocate "
            + bytes
            + " bytes: allocated "
            + allocated.get()
            + ", active "
            + active.get()
            + ", limit "
            + driver.memory().limitBytes()
            + " bytes. Close buffers that are no longer needed, or work on smaller batches. ("
            + refused.getMessage()
            + ")",
        refused);
  }

  /** Waits for the work of one pending block; false if there is none. */
  private boolean awaitPending() {
    DeviceBuffer oldest = pending.peek();
    if (oldest == null) {
      return false;
    }
    oldest.uses().awaitReached();
    reclaim();
    return true;
  }

  /** The user's side of a buffer has ended: its memory goes back now, or once its work is done. */
  void closed(DeviceBuffer buffer) {
    inUse.remove(buffer);
    allocated.addAndGet(-buffer.byteSize());
    buffer.uses().close();
    if (unused(buffer.uses())) {
      destroy(buffer);
    } else {
      pending.add(buffer);
    }
  }

  /** Whether no work can touch the memory any more. */
  boolean unused(Uses uses) {
    return uses.passed();
  }

  /**
   * Gives back pending memory whose work is done. Never blocks; does nothing while another thread
   * is at it.
   */
  void reclaim() {
    if (pending.isEmpty() || !reclaiming.tryLock()) {
      return;
    }
    LockOrder order = device.lockOrder();
    try {
      order.enter(LockOrder.MEMORY);
      try {
        for (Iterator<DeviceBuffer> each = pending.iterator(); each.hasNext(); ) {
          DeviceBuffer buffer = each.next();
          if (unused(buffer.uses())) {
            each.remove();
            destroy(buffer);
          }
        }
      } finally {
        order.exit(LockOrder.MEMORY);
      }
    } finally {
      reclaiming.unlock();
    }
  }

  private void destroy(DeviceBuffer buffer) {
    try {
      driver.destroyBuffer(buffer.handle());
      active.addAndGet(-buffer.byteSize());
    } catch (DriverException e) {
      device.log(Level.ERROR, "the driver kept " + buffer, e);
    }
  }

  MemoryStats stats() {
    long nowAllocated = allocated.get();
    long nowActive = Math.max(active.get(), nowAllocated);
    return new MemoryStats(nowAllocated, nowActive, nowActive, peak.get(), allocations.get());
  }

  /** Closes every buffer. The device has no work left and takes none. */
  void close() {
    int open = 0;
    long bytes = 0;
    for (DeviceBuffer buffer : inUse) {
      if (buffer.closeQuietly()) {
        open++;
        bytes += buffer.byteSize();
      }
    }
    if (open > 0) {
      device.log(
          Level.WARNING, open + " buffers of " + bytes + " bytes were still open at close", null);
    }
    reclaim();
  }
}
