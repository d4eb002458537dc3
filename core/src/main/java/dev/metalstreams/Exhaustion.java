package dev.metalstreams;

/** What {@link StreamPool#lease(Exhaustion)} does when no stream can be had alone. */
public enum Exhaustion {
  /** Share a stream: an ordering among those who share it, never an error. */
  OVERSUBSCRIBE,
  /** Throw {@link StreamPoolExhaustedException} at once. */
  FAIL,
  /** Wait until one is free. */
  WAIT,
  /** Wait, but not longer than a time, then throw {@link StreamPoolExhaustedException}. */
  TIMEOUT
}
