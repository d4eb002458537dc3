package dev.metalstreams.cli;

import java.util.Locale;

/** A bar on standard error, for long work, where somebody is looking. */
final class Progress {
  private static final int WIDTH = 30;
  private static final String CLEAR_LINE = "\r\033[K";

  private final Output output;
  private boolean drawn;

  Progress(Output output) {
    this.output = output;
  }

  /**
   * Draws it.
   *
   * @param fraction done, 0 to 1
   * @param text what to say behind it
   */
  void show(double fraction, String text) {
    if (!output.errIsTerminal()) {
      return;
    }
    double bounded = Math.clamp(fraction, 0, 1);
    int full = (int) (bounded * WIDTH);
    output
        .err()
        .print(
            CLEAR_LINE
                + String.format(
                    Locale.ROOT,
                    "[%s%s] %3.0f%%  %s",
                    "#".repeat(full),
                    ".".repeat(WIDTH - full),
                    100 * bounded,
                    text));
    output.err().flush();
    drawn = true;
  }

  /** Takes it away, so that what is printed next begins on a clean line. */
  void clear() {
    if (drawn) {
      output.err().print(CLEAR_LINE);
      output.err().flush();
      drawn = false;
    }
  }
}
