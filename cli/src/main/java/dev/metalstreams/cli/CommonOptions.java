package dev.metalstreams.cli;

import java.util.List;

/** The options of every command. */
final class CommonOptions {
  static final Parameter<String> BACKEND =
      Parameter.choice(
          "backend",
          "auto",
          "what runs the work; auto takes metal where it is usable, else host",
          "auto",
          "host",
          "metal");
  static final Parameter<Boolean> JSON =
      Parameter.flag("json", "print one JSON object and nothing else on standard output");
  static final Parameter<Boolean> VERBOSE =
      Parameter.flag("verbose", "say more on standard error, stack traces among it");
  static final Parameter<Long> SEED =
      Parameter.wholeNumber("seed", 0, Long.MAX_VALUE, 0L, "what random choices start from");
  static final Parameter<Boolean> HELP = Parameter.flag("help", "print this help");

  static final List<Parameter<?>> ALL = List.of(BACKEND, SEED, JSON, VERBOSE, HELP);

  private CommonOptions() {}
}
