package dev.metalstreams.cli;

/** How the command ended, for the shell. */
enum ExitStatus {
  /** All held. */
  OK(0),
  /** A wrong value, lost work, or an error nobody expected. */
  CHECK_FAILED(1),
  /** The command line, a setting or a file was wrong. */
  BAD_USAGE(2),
  /** There is no usable backend. */
  NO_BACKEND(3),
  /** Stopped by Ctrl-C; the status that shells know for it. */
  INTERRUPTED(130);

  private final int code;

  ExitStatus(int code) {
    this.code = code;
  }

  int code() {
    return code;
  }
}
