package dev.metalstreams;

/** Something went wrong with a device, a stream or its memory; never a mistake in an argument. */
public class MetalStreamsException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  MetalStreamsException(String message) {
    super(message);
  }

  MetalStreamsException(String message, Throwable cause) {
    super(message, cause);
  }
}
