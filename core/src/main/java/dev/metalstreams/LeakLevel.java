package dev.metalstreams;

/** How closely dropped buffers are looked at. Their memory comes back on every level. */
public enum LeakLevel {
  /** No reports. */
  DISABLED,
  /** One of 128 buffers carries the place of its allocation. */
  SIMPLE,
  /** Like simple, and those carry the place of their last use as well. */
  ADVANCED,
  /** Every buffer carries both. Slow. */
  PARANOID;

  boolean recordsUse() {
    return this == ADVANCED || this == PARANOID;
  }
}
