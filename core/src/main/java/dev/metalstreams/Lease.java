package dev.metalstreams;

import java.util.concurrent.atomic.AtomicBoolean;

/**
 * The use of a stream, alone if {@link #exclusive} says so, until it is closed. May be passed
 * between threads.
 *
 * <p>A lease does not make its stream current: pass the stream on, or run with {@link
 * StreamPool#callWith}.
 */
public final class Lease implements AutoCloseable {
  private final StreamPool pool;
  private final DeviceStream stream;
  private final boolean exclusive;
  private final AtomicBoolean open = new AtomicBoolean(true);

  Lease(StreamPool pool, DeviceStream stream, boolean exclusive) {
    this.pool = pool;
    this.stream = stream;
    this.exclusive = exclusive;
  }

  /**
   * The stream.
   *
   * @throws IllegalStateException if the lease is closed
   */
  public DeviceStream stream() {
    if (!open.get()) {
      throw new IllegalStateException("the lease is closed");
    }
    return stream;
  }

  /** False if no stream was free and the policy is to share. */
  public boolean exclusive() {
    return exclusive;
  }

  /** Gives the stream back. Does not wait for its work. Idempotent. */
  @Override
  public void close() {
    if (open.compareAndSet(true, false) && exclusive) {
      pool.giveBack(stream.index());
    }
  }
}
