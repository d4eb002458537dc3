package dev.metalstreams;

/** How a race is reported. */
public enum HazardReport {
  /**
   * The call that completes it throws {@link StreamRaceException}; it has encoded or mapped
   * nothing.
   */
  THROW,
  /** It is logged, once for each pair of call sites, and the call goes on. */
  LOG
}
