package dev.metalstreams.micrometer;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceMemory;
import dev.metalstreams.MemoryStats;
import dev.metalstreams.MemoryStats.Metric;
import dev.metalstreams.MemoryStats.Pool;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tag;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.binder.MeterBinder;
import java.util.Locale;
import java.util.Objects;
import java.util.function.ToLongFunction;

/**
 * The memory of a device as meters: {@code new MemoryMetrics(device).bindTo(registry)}.
 *
 * <p>Figures are read when the registry asks; nothing is counted twice. Bind once for each device
 * and registry, with tags that tell devices apart. The meters go on after the device is closed,
 * with its last figures; they keep it from the garbage collector. Thread-safe.
 *
 * <table>
 * <caption>Meters</caption>
 * <tr><th>name</th><th>is</th><th>tags</th></tr>
 * <tr><td>{@code metalstreams.memory}</td><td>gauge, bytes</td>
 *     <td>{@code figure}: allocated, active, reserved, requested; {@code pool}: small, large</td></tr>
 * <tr><td>{@code metalstreams.memory.peak}</td><td>gauge, bytes</td>
 *     <td>{@code figure}; {@code pool}: all, small, large: peaks do not add up</td></tr>
 * <tr><td>{@code metalstreams.memory.blocks}</td><td>gauge, blocks</td>
 *     <td>{@code figure}: allocated, active, reserved; {@code pool}: small, large</td></tr>
 * <tr><td>{@code metalstreams.memory.blocks.peak}</td><td>gauge, blocks</td>
 *     <td>{@code figure}; {@code pool}: all, small, large</td></tr>
 * <tr><td>{@code metalstreams.memory.pending}</td><td>gauge, bytes</td>
 *     <td>{@code stream}: index of the owner of what closed buffers still hold</td></tr>
 * <tr><td>{@code metalstreams.memory.allocations}, {@code .retries}, {@code .out.of.memory},
 *     {@code .device.allocations}, {@code .device.frees}, {@code .steals}, {@code .leaks}</td>
 *     <td>counter</td><td></td></tr>
 * </table>
 */
public final class MemoryMetrics implements MeterBinder {
  private static final String PREFIX = "metalstreams.memory";

  private final Device device;
  private final Iterable<Tag> tags;

  /** Meters without tags of the user's own. */
  public MemoryMetrics(Device device) {
    this(device, Tags.empty());
  }

  /** Meters that all have these tags. */
  public MemoryMetrics(Device device, Iterable<Tag> tags) {
    this.device = Objects.requireNonNull(device, "device");
    this.tags = Objects.requireNonNull(tags, "tags");
  }

  @Override
  public void bindTo(MeterRegistry registry) {
    Objects.requireNonNull(registry, "registry");
    for (Metric metric : Metric.values()) {
      for (Pool pool : Pool.values()) {
        figures(registry, metric, pool);
      }
    }
    for (int i = 0; i < device.streams().size(); i++) {
      int stream = i;
      Gauge.builder(
              PREFIX + ".pending",
              device.memory(),
              memory -> memory.stats().pendingByStream().getOrDefault(stream, 0L))
          .description("Held by closed buffers because other streams still use them")
          .baseUnit("bytes")
          .tags(tags)
          .tag("stream", Integer.toString(stream))
          .strongReference(true)
          .register(registry);
    }
    counter(registry, "allocations", "Buffers handed out", MemoryStats::allocations);
    counter(registry, "retries", "Allocations that had to insist", MemoryStats::retries);
    counter(registry, "out.of.memory", "Allocations that failed", MemoryStats::outOfMemories);
    counter(
        registry,
        "device.allocations",
        "Buffers that the driver gave",
        MemoryStats::deviceAllocations);
    counter(registry, "device.frees", "Buffers given back to the driver", MemoryStats::deviceFrees);
    counter(registry, "steals", "Blocks taken from another stream's cache", MemoryStats::steals);
    counter(registry, "leaks", "Buffers dropped without close", MemoryStats::leaks);
  }

  private void figures(MeterRegistry registry, Metric metric, Pool pool) {
    // Sums over tags must not count anything twice; peaks cannot be summed at all.
    if (pool != Pool.ALL) {
      gauge(registry, "", "bytes", metric, pool, stats -> stats.bytes(metric, pool).current());
    }
    gauge(registry, ".peak", "bytes", metric, pool, stats -> stats.bytes(metric, pool).peak());
    if (metric == Metric.REQUESTED) {
      return; // as many as are allocated
    }
    if (pool != Pool.ALL) {
      gauge(
          registry,
          ".blocks",
          "blocks",
          metric,
          pool,
          stats -> stats.count(metric, pool).current());
    }
    gauge(
        registry,
        ".blocks.peak",
        "blocks",
        metric,
        pool,
        stats -> stats.count(metric, pool).peak());
  }

  private void gauge(
      MeterRegistry registry,
      String name,
      String unit,
      Metric metric,
      Pool pool,
      ToLongFunction<MemoryStats> figure) {
    Gauge.builder(PREFIX + name, device.memory(), memory -> figure.applyAsLong(memory.stats()))
        .baseUnit(unit)
        .tags(tags)
        .tag("figure", metric.name().toLowerCase(Locale.ROOT))
        .tag("pool", pool.name().toLowerCase(Locale.ROOT))
        .strongReference(true)
        .register(registry);
  }

  private void counter(
      MeterRegistry registry, String name, String description, ToLongFunction<MemoryStats> figure) {
    FunctionCounter.<DeviceMemory>builder(
            PREFIX + "." + name, device.memory(), memory -> figure.applyAsLong(memory.stats()))
        .description(description)
        .tags(tags)
        .register(registry);
  }
}
