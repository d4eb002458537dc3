package dev.metalstreams.cli;

import java.util.ArrayList;
import java.util.List;

/** What went wrong, from all threads: counted in full, told as far as somebody would read. */
final class Findings {
  private static final int ENOUGH = 20;

  private final List<String> told = new ArrayList<>();
  private final List<Throwable> causes = new ArrayList<>();
  private long mismatches;
  private long errors;

  /** A result that is not what it should be. */
  synchronized void mismatch(String sentence) {
    mismatches++;
    tell(sentence);
  }

  /** A check that failed, without a throwable. */
  synchronized void error(String sentence) {
    errors++;
    tell(sentence);
  }

  /** A fault in the accounts at the end: told in any case, however much was found before. */
  synchronized void inTheEnd(String sentence) {
    errors++;
    told.add(sentence);
  }

  /** A throwable that nobody expected. */
  synchronized void error(String where, Throwable cause) {
    errors++;
    if (tell(where + ": " + OneLine.of(cause.toString()))) {
      causes.add(cause);
    }
  }

  private boolean tell(String sentence) {
    return told.size() < ENOUGH && told.add(sentence);
  }

  synchronized long mismatches() {
    return mismatches;
  }

  synchronized long errors() {
    return errors;
  }

  /** Whether there are none. */
  synchronized boolean none() {
    return mismatches + errors == 0;
  }

  /** Those that are told, as sentences. */
  synchronized List<String> told() {
    return List.copyOf(told);
  }

  /** Prints those that are told, one line each. */
  synchronized void print(Output output, boolean stackTraces) {
    told.forEach(output::complain);
    long untold = mismatches + errors - told.size();
    if (untold > 0) {
      output.complain("and " + Figures.count(untold) + " more");
    }
    if (stackTraces) {
      causes.forEach(cause -> cause.printStackTrace(output.err()));
    }
  }
}
