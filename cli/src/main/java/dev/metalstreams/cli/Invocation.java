package dev.metalstreams.cli;

/**
 * What a command runs with.
 *
 * @param values the options given
 * @param output where to print
 * @param stop the user's wish to stop
 */
record Invocation(Values values, Output output, StopSignal stop) {
  boolean json() {
    return values.has(CommonOptions.JSON);
  }

  boolean verbose() {
    return values.has(CommonOptions.VERBOSE);
  }

  long seed() {
    return values.get(CommonOptions.SEED);
  }
}
