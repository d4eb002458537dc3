package dev.metalstreams.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.function.DoubleBinaryOperator;

/**
 * Java and C measured in turn, in short rounds: what else the machine does weighs on both sides of
 * a pair alike, and the median does not mind the pairs where it did not.
 */
final class Pairs {
  private final List<double[]> pairs = new ArrayList<>();

  void add(double java, double c) {
    pairs.add(new double[] {java, c});
  }

  double java() {
    return median((java, c) -> java);
  }

  double c() {
    return median((java, c) -> c);
  }

  double ratio() {
    return median((java, c) -> java / c);
  }

  double difference() {
    return median((java, c) -> java - c);
  }

  /** The half of the ratios that lies around the median. */
  String ratioRange() {
    double[] sorted = sorted((java, c) -> java / c);
    return "%.2f to %.2f"
        .formatted(sorted[sorted.length / 4], sorted[sorted.length - 1 - sorted.length / 4]);
  }

  private double median(DoubleBinaryOperator ofPair) {
    double[] sorted = sorted(ofPair);
    return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
  }

  private double[] sorted(DoubleBinaryOperator ofPair) {
    return pairs.stream()
        .mapToDouble(pair -> ofPair.applyAsDouble(pair[0], pair[1]))
        .sorted()
        .toArray();
  }
}
