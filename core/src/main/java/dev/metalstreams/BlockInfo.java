package dev.metalstreams;

/**
 * A block of memory at the moment of a snapshot.
 *
 * @param id never reused within a device
 * @param state what it is
 * @param size bytes held from the driver
 * @param requested bytes the user asked for; 0 unless in use
 * @param stream index of the stream that owns it
 * @param outstandingUses how many streams have work left on it
 * @param ageNanos time since its state changed, as coarse as the completion thread's tick
 */
public record BlockInfo(
    long id,
    State state,
    long size,
    long requested,
    int stream,
    int outstandingUses,
    long ageNanos) {

  /** What a block is. */
  public enum State {
    /** A buffer has it. */
    IN_USE,
    /** Closed, and still used by work on other streams. */
    PENDING,
    /** Free for its stream. */
    CACHED
  }
}
