package dev.metalstreams.driver;

/** A driver refused a call. Nothing has happened. */
public final class DriverException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Status status;

  /** Made by drivers. */
  public DriverException(Status status, String message) {
    super(message);
    this.status = status;
  }

  /** Made by drivers. */
  public DriverException(Status status, String message, Throwable cause) {
    super(message, cause);
    this.status = status;
  }

  /** Why. */
  public Status status() {
    return status;
  }
}
