package dev.metalstreams;

/** What becomes of work on two streams, or of stream and CPU, that races for memory. */
public enum HazardMode {
  /** Nobody looks. Costs nothing. */
  OFF,
  /** It is found, and thrown or logged as {@link HazardReport} says. */
  DETECT,
  /**
   * The missing wait is added, so that careless code is slower and not wrong. What no wait can
   * mend, work on memory that the CPU has a view of, is reported as under {@link #DETECT}.
   */
  ORDER
}
