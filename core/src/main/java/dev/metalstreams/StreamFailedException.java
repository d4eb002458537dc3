package dev.metalstreams;

import dev.metalstreams.driver.Status;
import org.jspecify.annotations.Nullable;

/**
 * Work on a stream failed on the device.
 *
 * <p>The first failure of a stream is kept. Everyone who waits for that work or for later work of
 * the stream, or of a stream that waited for it, gets an exception of this type, whose {@linkplain
 * #getCause() cause} is the earlier failure. The stream takes no work until {@link
 * DeviceStream#reset}.
 */
public final class StreamFailedException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  private final int streamIndex;
  private final long value;
  private final Status status;

  StreamFailedException(
      String message, int streamIndex, long value, Status status, @Nullable Throwable cause) {
    super(message);
    if (cause != null) {
      initCause(cause);
    }
    this.streamIndex = streamIndex;
    this.value = value;
    this.status = status;
  }

  /**
   * Index of the stream in its pool; -1 if it was not a stream that failed, but a {@link
   * HostEvent}.
   */
  public int streamIndex() {
    return streamIndex;
  }

  /** The timeline value of the command buffer that failed. */
  public long value() {
    return value;
  }

  /** What kind of failure: {@link Status#DEPENDENCY} if work on another stream failed first. */
  public Status status() {
    return status;
  }

  /**
   * The same failure as seen by one more thread: with that thread's stack and this as the cause.
   */
  StreamFailedException seenBy(String what) {
    return new StreamFailedException(what + ": " + getMessage(), streamIndex, value, status, this);
  }
}
