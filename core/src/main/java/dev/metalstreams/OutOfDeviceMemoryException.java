package dev.metalstreams;

/**
 * Memory for a buffer could not be had, after everything that could be given back was. The message
 * has the figures.
 */
public final class OutOfDeviceMemoryException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  OutOfDeviceMemoryException(String message) {
    super(message);
  }

  OutOfDeviceMemoryException(String message, Throwable cause) {
    super(message, cause);
  }
}
