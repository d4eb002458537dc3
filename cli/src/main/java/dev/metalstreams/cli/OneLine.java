package dev.metalstreams.cli;

/**
 * Text that may come from anywhere, made fit for one line of a message: nothing in it ends the
 * line, and nothing is a character that a terminal would obey or that reorders what is read.
 */
final class OneLine {
  private OneLine() {}

  static String of(String text) {
    return text.replaceAll("\\R+\\s*", " ").replaceAll("[\\p{Cc}\\p{Cf}]", "?").strip();
  }

  /** The message of a throwable, or its class where it has none. */
  static String of(Throwable throwable) {
    String message = throwable.getMessage();
    return message == null ? throwable.getClass().getName() : of(message);
  }
}
