package dev.metalstreams;

/** The time given to a wait ran out. The work goes on; the wait can be repeated. */
public final class WaitTimeoutException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  WaitTimeoutException(String message) {
    super(message);
  }
}
