package dev.metalstreams;

/**
 * Something that happened to memory; kept when the setting {@code memory.history} says so.
 *
 * @param nanoTime when, on the clock of {@link System#nanoTime}
 * @param kind what
 * @param block id of the block; 0 if none is meant
 * @param bytes bytes of the block, or asked for
 * @param stream index of the stream that owns it; -1 if none
 */
public record MemoryEvent(long nanoTime, Kind kind, long block, long bytes, int stream) {

  /** What happened. */
  public enum Kind {
    /** A buffer got the block. */
    ALLOCATE,
    /** The buffer was closed. */
    FREE_REQUESTED,
    /** No other stream uses the block any more. */
    FREE_COMPLETED,
    /** The driver gave a block. */
    DEVICE_ALLOCATE,
    /** A block was given back to the driver. */
    DEVICE_FREE,
    /** A block was taken from another stream's cache. */
    STEAL,
    /** Cached blocks are given back to make room. */
    TRIM,
    /** An allocation failed. */
    OUT_OF_MEMORY
  }
}
