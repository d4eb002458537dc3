package dev.metalstreams;

/** A lease was asked for and no stream could be had alone, within the time if one was given. */
public final class StreamPoolExhaustedException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  StreamPoolExhaustedException(String message) {
    super(message);
  }
}
