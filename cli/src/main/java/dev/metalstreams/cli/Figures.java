package dev.metalstreams.cli;

import java.util.Locale;
import java.util.Optional;

/** Numbers for people. */
final class Figures {
  private Figures() {}

  static String count(long value) {
    return String.format(Locale.ROOT, "%,d", value);
  }

  static String real(double value, int digits) {
    return String.format(Locale.ROOT, "%,." + digits + "f", value);
  }

  static String bytes(long value) {
    String[] units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double scaled = value;
    int unit = 0;
    while (scaled >= 1024 && unit < units.length - 1) {
      scaled /= 1024;
      unit++;
    }
    return unit == 0 ? value + " B" : real(scaled, 1) + " " + units[unit];
  }

  /** How many times faster one is than another, by the medians; empty if one is not known. */
  static Optional<Double> ratio(Optional<Rate> rate, Optional<Rate> base) {
    return rate.isPresent() && base.isPresent()
        ? Optional.of(rate.get().median() / base.get().median())
        : Optional.empty();
  }
}
