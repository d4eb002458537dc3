package dev.metalstreams;

/** No device could be opened. The message says why and what to do. */
public final class DeviceUnavailableException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  DeviceUnavailableException(String message, Throwable cause) {
    super(message, cause);
  }

  DeviceUnavailableException(String message) {
    super(message);
  }
}
