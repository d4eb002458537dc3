package dev.metalstreams;

/** What one {@link Operation} does to a range of one buffer's memory. */
final class Access {
  final Operation by;
  final Accesses memory;
  final boolean writes;
  final long from;
  final long to;

  /** Whether it is sure to happen; until then it is only claimed. Under the memory's monitor. */
  boolean settled;

  Access(Operation by, Accesses memory, boolean writes, long from, long to) {
    this.by = by;
    this.memory = memory;
    this.writes = writes;
    this.from = from;
    this.to = to;
  }

  boolean overlaps(Access other) {
    return from < other.to && other.from < to;
  }

  boolean covers(Access other) {
    return from <= other.from && other.to <= to;
  }
}
