package dev.metalstreams.cli;

import java.util.List;
import java.util.Optional;

/** One command of the program. */
interface Command {

  /** The word on the command line. */
  String name();

  /** What it does, in a few words for the list of commands. */
  String summary();

  /** What it does, in a paragraph for its own help. */
  String description();

  /** What stands before the options, if it takes something there. */
  default Optional<Parameter<String>> operand() {
    return Optional.empty();
  }

  /** Its options besides {@link CommonOptions}, in the order of the help. */
  List<Parameter<?>> parameters();

  /**
   * Does it.
   *
   * @throws UsageException if what the user gave is wrong
   */
  ExitStatus run(Invocation invocation);
}
