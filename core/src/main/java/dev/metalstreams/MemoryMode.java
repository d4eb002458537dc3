package dev.metalstreams;

/** What becomes of memory that is closed. */
public enum MemoryMode {
  /** It is kept for the next allocation on its stream. */
  CACHED,
  /** It goes back to the driver once no work uses it, so that memory checkers see every misuse. */
  NO_CACHE,
  /**
   * Once no work uses it, it is filled with a pattern, which the next tenant must find: late writes
   * are caught.
   */
  POISON
}
