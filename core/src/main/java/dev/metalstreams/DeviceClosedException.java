package dev.metalstreams;

/**
 * The device is closed or closing: it takes no new work, and what was not done by then never will
 * be.
 */
public final class DeviceClosedException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  DeviceClosedException(String message) {
    super(message);
  }
}
