package dev.metalstreams.script;

/** The error function in double precision. */
public final class Erf {
  private Erf() {}

  /** 2/√π times the integral of exp(-t²) from 0 to x. */
  public static double erf(double x) {
    double size = Math.abs(x);
    if (Double.isNaN(x)) {
      return x;
    }
    if (size > 6) {
      return Math.signum(x);
    }
    return Math.signum(x) * (size < 2.5 ? series(size) : 1 - tail(size));
  }

  /** The Maclaurin series of exp(-x²) times that of the rest, whose terms are all positive. */
  private static double series(double x) {
    double term = x;
    double sum = x;
    for (int n = 1; term > sum * 1e-18; n++) {
      term *= 2 * x * x / (2 * n + 1);
      sum += term;
    }
    return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
  }

  /** 1 - erf(x) by its continued fraction. */
  private static double tail(double x) {
    double fraction = 0;
    for (int n = 200; n > 0; n--) {
      fraction = n / 2.0 / (x + fraction);
    }
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
  }
}
