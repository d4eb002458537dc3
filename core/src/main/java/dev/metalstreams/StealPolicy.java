package dev.metalstreams;

/** Whether an allocation under pressure takes a block from another stream's cache. */
public enum StealPolicy {
  /** Never. */
  NEVER,
  /** When no work uses the block. */
  COMPLETE,
  /**
   * Also when work uses it: the taking stream waits for that work on the device, and fails if it
   * fails.
   */
  WAIT
}
