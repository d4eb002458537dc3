package dev.metalstreams;

import java.nio.ByteBuffer;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;

/**
 * The memory of a buffer as the CPU sees it, until it is closed. The buffer's memory stays valid
 * while a view of it is open, even if the buffer is closed meanwhile.
 *
 * <p>Byte buffers taken from a view are not to be touched after its close: they would show whoever
 * has the memory then. The view itself may be closed by any thread; its bytes are as safe for
 * several threads as any memory.
 */
public final class HostView implements AutoCloseable {
  private final DeviceBuffer buffer;
  private final boolean writable;

  /** What the race detector knows it as; null if there is none. */
  private final @Nullable Operation access;

  private final AtomicBoolean open = new AtomicBoolean(true);

  /** Takes over one acquire of the buffer. */
  HostView(DeviceBuffer buffer, boolean writable, @Nullable Operation access) {
    this.buffer = buffer;
    this.writable = writable;
    this.access = access;
  }

  /** Length in bytes. */
  public long byteSize() {
    return buffer.byteSize();
  }

  /**
   * The whole memory, in native byte order.
   *
   * @throws IllegalStateException if the view is closed, or the memory is longer than a {@code
   *     ByteBuffer} can be
   */
  public ByteBuffer bytes() {
    if (buffer.byteSize() > Integer.MAX_VALUE) {
      throw new IllegalStateException(
          "a ByteBuffer cannot hold " + buffer.byteSize() + " bytes: take ranges");
    }
    return bytes(0, (int) buffer.byteSize());
  }

  /**
   * A range of the memory, in native byte order.
   *
   * @throws IndexOutOfBoundsException if it is not within the buffer
   * @throws IllegalStateException if the view is closed
   */
  public ByteBuffer bytes(long offset, int length) {
    Objects.checkFromIndexSize(offset, length, buffer.byteSize());
    if (!open.get()) {
      throw new IllegalStateException("the view is closed");
    }
    ByteBuffer bytes = buffer.device().driver().contents(buffer.handle(), offset, length);
    return writable ? bytes : bytes.asReadOnlyBuffer().order(bytes.order());
  }

  /** The race detector looks at this view no longer. */
  void leaveOrderToCaller() {
    if (access != null) {
      access.retract();
    }
  }

  /** Ends the view. Idempotent. */
  @Override
  public void close() {
    if (open.compareAndSet(true, false)) {
      leaveOrderToCaller();
      buffer.release();
    }
  }
}
