package dev.metalstreams;

/**
 * A moment in the program of a stream: how many operations were encoded on it, and what these come
 * after. Immutable.
 *
 * <p>A position counts operations. A timeline value would not do: several operations share one, and
 * how many is a matter of luck.
 *
 * @param stream its index
 * @param position operations of the stream
 * @param clock what the last of them comes after, the host's knowledge apart: that only grows, so
 *     whoever looks later knows more
 */
record Stamp(int stream, long position, Clock clock) {

  /** The same moment, after another moment was waited for. */
  Stamp with(Clock later) {
    return later == clock ? this : new Stamp(stream, position, later);
  }
}
