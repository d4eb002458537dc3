package dev.metalstreams;

import java.util.List;
import java.util.Objects;

/**
 * The memory of a device: figures, what every block is doing, and ways to give memory back. All
 * methods may be called from any thread.
 */
public final class DeviceMemory {
  private final Device device;
  private final Allocator allocator;

  DeviceMemory(Device device, Allocator allocator) {
    this.device = device;
    this.allocator = allocator;
  }

  /** The figures of this moment. Never blocks. */
  public MemoryStats stats() {
    return allocator.stats();
  }

  /** Every block, as it is now. Never blocks. */
  public List<BlockInfo> snapshot() {
    return allocator.snapshot();
  }

  /** The last events, oldest first, as many as the setting {@code memory.history} says. */
  public List<MemoryEvent> history() {
    return allocator.log().history();
  }

  /**
   * Figures, blocks and history as one JSON object: {@code stats}, {@code blocks}, {@code history},
   * in bytes and nanoseconds. Never blocks.
   */
  public String toJson() {
    return MemoryJson.of(this);
  }

  /** Gives all cached memory back to the driver, after waiting for work that still uses it. */
  public void emptyCache() {
    device.checkOpen();
    allocator.emptyCache();
  }

  /**
   * Gives cached memory that no work uses back to the driver, the longest unused first, until at
   * most {@code bytes} are reserved or none is left. Does not wait.
   *
   * @throws IllegalArgumentException if {@code bytes} is negative
   */
  public void trimTo(long bytes) {
    if (bytes < 0) {
      throw new IllegalArgumentException("bytes are not negative: " + bytes);
    }
    device.checkOpen();
    allocator.trimTo(bytes);
  }

  /**
   * Gives the cached memory of one stream back to the driver, after waiting for its work.
   *
   * @throws IllegalArgumentException if the stream belongs to another device
   */
  public void release(DeviceStream stream) {
    if (Objects.requireNonNull(stream, "stream").device() != device) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
    device.checkOpen();
    allocator.release(stream);
  }

  /** Makes every peak the figure of this moment. */
  public void resetPeak() {
    allocator.ledger().resetPeak();
  }

  /** Starts the totals in and out anew. */
  public void resetAccumulated() {
    allocator.ledger().resetAccumulated();
  }

  @Override
  public String toString() {
    return "memory of " + device + ": " + stats();
  }
}
