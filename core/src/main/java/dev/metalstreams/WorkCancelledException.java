package dev.metalstreams;

/**
 * The work that was waited for was cancelled before it was submitted: {@link DeviceStream#cancel}.
 */
public final class WorkCancelledException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  WorkCancelledException(String message) {
    super(message);
  }

  WorkCancelledException(String message, WorkCancelledException cause) {
    super(message, cause);
  }
}
