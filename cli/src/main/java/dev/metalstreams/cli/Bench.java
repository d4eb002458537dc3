package dev.metalstreams.cli;

import dev.metalstreams.Device;

/** One of the tables of {@code bench}. */
interface Bench {

  /** The word on the command line. */
  String name();

  /** What it shows, in a few words. */
  String summary();

  /**
   * Measures it. What the user's wish to stop came before is left out of the table.
   *
   * @param findings takes what went wrong, wrong results among it
   */
  Sheet measure(Device device, BenchOptions options, Invocation invocation, Findings findings);
}
