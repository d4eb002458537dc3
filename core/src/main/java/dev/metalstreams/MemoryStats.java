package dev.metalstreams;

import java.util.Map;

/**
 * The memory of a device in figures, after PyTorch's {@code memory_stats}.
 *
 * <p>{@code active - allocated} is what closed buffers hold because other streams still use them;
 * {@code reserved - active} is the cache; {@code allocated - requested} is lost to rounding. Each
 * stream's part is exact; figures of several streams are read one after the other.
 */
public final class MemoryStats {

  /** What is counted. */
  public enum Metric {
    /** Blocks that buffers have. */
    ALLOCATED(Ledger.ALLOCATED_BYTES, Ledger.ALLOCATED_COUNT),
    /** Allocated, and closed but still used by other streams. */
    ACTIVE(Ledger.ACTIVE_BYTES, Ledger.ACTIVE_COUNT),
    /** Held from the driver. */
    RESERVED(Ledger.RESERVED_BYTES, Ledger.RESERVED_COUNT),
    /** What users asked for, before rounding to block sizes. */
    REQUESTED(Ledger.REQUESTED_BYTES, Ledger.ALLOCATED_COUNT);

    private final int bytes;
    private final int count;

    Metric(int bytes, int count) {
      this.bytes = bytes;
      this.count = count;
    }
  }

  /** Which blocks. */
  public enum Pool {
    /** All. */
    ALL(Ledger.ALL),
    /** Blocks of up to 1 MiB. */
    SMALL(Ledger.SMALL),
    /** Larger blocks. */
    LARGE(Ledger.LARGE);

    private final int index;

    Pool(int index) {
      this.index = index;
    }
  }

  /**
   * One figure.
   *
   * @param current now
   * @param peak the largest since the start, or since {@link DeviceMemory#resetPeak}
   * @param totalIn all that was ever added, or since {@link DeviceMemory#resetAccumulated}
   * @param totalOut all that was ever taken away, likewise
   */
  public record Counter(long current, long peak, long totalIn, long totalOut) {}

  private final Ledger.Figures figures;
  private final Events events;
  private final Map<Integer, Long> pending;

  /** Things that happened, counted. */
  record Events(
      long retries,
      long outOfMemories,
      long deviceAllocations,
      long deviceFrees,
      long steals,
      long leaks) {}

  MemoryStats(Ledger.Figures figures, Events events, Map<Integer, Long> pending) {
    this.figures = figures;
    this.events = events;
    this.pending = Map.copyOf(pending);
  }

  /** A figure in bytes. */
  public Counter bytes(Metric metric, Pool pool) {
    return figures.counter(metric.bytes, pool.index);
  }

  /** A figure in blocks. */
  public Counter count(Metric metric, Pool pool) {
    return figures.counter(metric.count, pool.index);
  }

  /** Bytes in blocks that buffers have. */
  public long allocated() {
    return bytes(Metric.ALLOCATED, Pool.ALL).current();
  }

  /** Bytes in blocks that buffers have or other streams still use. */
  public long active() {
    return bytes(Metric.ACTIVE, Pool.ALL).current();
  }

  /** Bytes held from the driver. */
  public long reserved() {
    return bytes(Metric.RESERVED, Pool.ALL).current();
  }

  /** Bytes that users asked for. */
  public long requested() {
    return bytes(Metric.REQUESTED, Pool.ALL).current();
  }

  /** The largest {@link #allocated}. */
  public long peak() {
    return bytes(Metric.ALLOCATED, Pool.ALL).peak();
  }

  /** How many buffers were ever allocated. */
  public long allocations() {
    return count(Metric.ALLOCATED, Pool.ALL).totalIn();
  }

  /** How often an allocation had to give memory back or wait before it could be served. */
  public long retries() {
    return events.retries;
  }

  /** How often an allocation failed for want of memory. */
  public long outOfMemories() {
    return events.outOfMemories;
  }

  /** How often the driver was asked for a buffer and gave it. */
  public long deviceAllocations() {
    return events.deviceAllocations;
  }

  /** How often a buffer was given back to the driver. */
  public long deviceFrees() {
    return events.deviceFrees;
  }

  /** How often a block was taken from another stream's cache. */
  public long steals() {
    return events.steals;
  }

  /** How many buffers were dropped without a close. */
  public long leaks() {
    return events.leaks;
  }

  /**
   * Bytes that closed buffers hold because other streams still use them, by index of the owning
   * stream.
   */
  public Map<Integer, Long> pendingByStream() {
    return pending;
  }

  @Override
  public String toString() {
    return "allocated "
        + allocated()
        + ", active "
        + active()
        + ", reserved "
        + reserved()
        + ", peak "
        + peak()
        + " bytes";
  }
}
