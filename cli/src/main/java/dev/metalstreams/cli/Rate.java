package dev.metalstreams.cli;

import java.util.Arrays;
import java.util.List;

/**
 * How often something was done in a second, in several rounds: the median, the slowest and the
 * fastest round.
 *
 * @param rounds how many there were, at least one
 */
record Rate(double median, double low, double high, int rounds) {

  static Rate of(List<Double> perSecond) {
    double[] sorted = perSecond.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    int middle = sorted.length / 2;
    double median =
        sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    return new Rate(median, sorted[0], sorted[sorted.length - 1], sorted.length);
  }

  /** The same rate, counted in another unit. */
  Rate times(double factor) {
    double[] ends = {low * factor, high * factor};
    Arrays.sort(ends);
    return new Rate(median * factor, ends[0], ends[1], rounds);
  }

  /** The time that one takes, in nanoseconds. */
  Rate nanosEach() {
    return new Rate(1e9 / median, 1e9 / high, 1e9 / low, rounds);
  }

  /** How far the rounds lie apart, as a part of the median. */
  double spread() {
    return (high - low) / median;
  }

  Json json() {
    return new Json().put("median", median).put("low", low).put("high", high).put("rounds", rounds);
  }
}
