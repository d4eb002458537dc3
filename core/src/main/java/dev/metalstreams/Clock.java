package dev.metalstreams;

import java.util.Arrays;

/**
 * What something comes after: for each stream, by index, how many of its operations. A vector
 * clock. Immutable, so that an event or an operation keeps the clock of its moment by a reference.
 */
final class Clock {
  /** After nothing. */
  static final Clock ZERO = new Clock(new long[0]);

  private final long[] positions;

  private Clock(long[] positions) {
    this.positions = positions;
  }

  /** How many operations of a stream it is after. */
  long at(int stream) {
    return stream < positions.length ? positions[stream] : 0;
  }

  /** After all that either is after. */
  Clock join(Clock other) {
    for (int i = 0; i < other.positions.length; i++) {
      if (other.positions[i] > at(i)) {
        long[] joined =
            Arrays.copyOf(positions, Math.max(positions.length, other.positions.length));
        for (int j = i; j < other.positions.length; j++) {
          joined[j] = Math.max(joined[j], other.positions[j]);
        }
        return new Clock(joined);
      }
    }
    return this;
  }

  /** After this, and after the first {@code position} operations of a stream. */
  Clock raise(int stream, long position) {
    if (position <= at(stream)) {
      return this;
    }
    long[] raised = Arrays.copyOf(positions, Math.max(positions.length, stream + 1));
    raised[stream] = position;
    return new Clock(raised);
  }

  @Override
  public String toString() {
    return Arrays.toString(positions);
  }
}
