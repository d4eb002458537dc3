package dev.metalstreams;

/**
 * The device is gone, or the driver says nothing any more: every wait fails, and nothing new is
 * taken. What can be done is to close the device and to open one anew.
 */
public final class DeviceLostException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  DeviceLostException(String message, Throwable cause) {
    super(message, cause);
  }
}
