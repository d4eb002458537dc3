package dev.metalstreams.cli;

/**
 * What the user gave is wrong. The message is one line that says what and what is wanted instead.
 */
final class UsageException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  UsageException(String message) {
    super(message);
  }

  UsageException(String message, Throwable cause) {
    super(message, cause);
  }
}
