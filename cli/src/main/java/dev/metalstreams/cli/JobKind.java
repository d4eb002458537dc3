package dev.metalstreams.cli;

/** The ways in which a job runs the workload. Every one ends with a result that is compared. */
enum JobKind {
  /** Upload, run, read back. */
  PLAIN("plain"),
  /** The result is made on one stream and consumed on another, which waits for an event. */
  HAND_OVER("hand_overs"),
  /**
   * Inputs and an unread result are closed while the device uses them, and what is allocated next
   * is written at once.
   */
  CLOSED_IN_FLIGHT("closed_in_flight"),
  /** An event is recorded behind the work and waited for in one of four ways. */
  EVENT("events"),
  /** Besides the workload, memory is filled and copied, and every byte checked. */
  FILL_AND_COPY("fills_and_copies");

  private final String field;

  JobKind(String field) {
    this.field = field;
  }

  /** How reports call a number of them. */
  String field() {
    return field;
  }
}
