package dev.metalstreams.cli;

import java.io.PrintStream;

/**
 * Where a command prints.
 *
 * @param out results
 * @param err everything else
 * @param errIsTerminal whether a progress bar on {@code err} is for somebody's eyes
 */
record Output(PrintStream out, PrintStream err, boolean errIsTerminal) {

  /**
   * True if standard error is a terminal. The launcher says so: the shell can tell, Java cannot.
   */
  private static final String TERMINAL_PROPERTY = "metalstreams.cli.terminal";

  /** The streams of this process. */
  static Output ofProcess() {
    return new Output(System.out, System.err, Boolean.getBoolean(TERMINAL_PROPERTY));
  }

  /** One line on standard error, under the program's name. */
  void complain(String sentence) {
    err.println("metalstreams: " + sentence);
  }
}
