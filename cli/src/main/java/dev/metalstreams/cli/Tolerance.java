package dev.metalstreams.cli;

/**
 * How far a result may be from a value that was computed in float64 and stored: |a−b| ≤ 1e-4 +
 * 1e-4·|b|.
 */
final class Tolerance {
  private static final float ABSOLUTE = 1e-4f;
  private static final float RELATIVE = 1e-4f;

  private Tolerance() {}

  static float around(float stored) {
    return ABSOLUTE + RELATIVE * Math.abs(stored);
  }
}
