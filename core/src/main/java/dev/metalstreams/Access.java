package dev.metalstreams;

import org.jspecify.annotations.Nullable;

/** What one {@link Operation} does to a range of one buffer's memory. */
final class Access {
  final Operation by;
  final Accesses memory;
  final boolean writes;
  final long from;
  final long to;

  /**
   * What comes back if this is not made after all: the accesses whose place it took, chained by
   * {@code next}. Forgotten once it is submitted.
   */
  @Nullable Access replaced;

  private @Nullable Access next;

  Access(Operation by, Accesses memory, boolean writes, long from, long to) {
    this.by = by;
    this.memory = memory;
    this.writes = writes;
    this.from = from;
    this.to = to;
  }

  /** Takes the place of another. */
  void replace(Access other) {
    other.next = replaced;
    replaced = other;
  }

  @Nullable Access next() {
    return next;
  }

  boolean overlaps(Access other) {
    return from < other.to && other.from < to;
  }

  boolean covers(Access other) {
    return from <= other.from && other.to <= to;
  }
}
