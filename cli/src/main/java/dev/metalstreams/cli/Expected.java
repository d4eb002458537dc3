package dev.metalstreams.cli;

/** What a result should be. */
final class Expected {
  private final float[] values;
  private final float[] allowed;

  /**
   * A result.
   *
   * @param values the values
   * @param allowed how far from each of them a result may be
   */
  Expected(float[] values, float[] allowed) {
    this.values = values;
    this.allowed = allowed;
  }

  /** One of the values. */
  float value(int index) {
    return values[index];
  }

  /** How far from that value a result may be. */
  float allowed(int index) {
    return allowed[index];
  }

  /** The index of the first value that is too far off (NaN always is), or -1. */
  int firstMismatch(float[] got) {
    for (int i = 0; i < values.length; i++) {
      if (!(Math.abs(got[i] - values[i]) <= allowed[i])) {
        return i;
      }
    }
    return -1;
  }
}
