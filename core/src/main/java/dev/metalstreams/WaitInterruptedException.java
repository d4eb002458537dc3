package dev.metalstreams;

/** The waiting thread was interrupted. Its interrupt flag is set; the work goes on. */
public final class WaitInterruptedException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  WaitInterruptedException(String message) {
    super(message);
  }
}
