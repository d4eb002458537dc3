package dev.metalstreams;

import dev.metalstreams.driver.DriverFlag;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * The settings of a device, each from the first place that has it: the builder, a system property,
 * an environment variable, the default. Immutable. A malformed value is an {@link
 * IllegalArgumentException} that names the place.
 */
public final class Settings {

  /** What can be set. The order is that of {@link #all}. */
  enum Key {
    BACKEND("backend", "METALSTREAMS_BACKEND", "auto", "device backend: auto, host or metal"),
    LIBRARY(
        "library",
        "METALSTREAMS_LIBRARY",
        "",
        "path of the native library; empty = the packed one"),
    POOL_SIZE("pool.size", "MPS_STREAM_POOL_SIZE", "32", "streams in the pool: 1 to 1024"),
    POOL_EXHAUSTION(
        "pool.exhaustion",
        "MPS_POOL_BACKPRESSURE",
        "oversubscribe",
        "a lease when no stream is free: oversubscribe, fail, wait or timeout"),
    POOL_TIMEOUT(
        "pool.timeout.ms",
        "MPS_POOL_TIMEOUT_MS",
        "5000",
        "longest wait for a lease under the policy timeout, in milliseconds"),
    MAX_IN_FLIGHT(
        "stream.max.in.flight",
        "METALSTREAMS_MAX_IN_FLIGHT",
        "16",
        "uncompleted command buffers of a stream before encoding waits: 1 to 60"),
    COMMIT_OPERATIONS(
        "stream.commit.operations",
        "METALSTREAMS_COMMIT_OPERATIONS",
        "40",
        "operations in a command buffer before it is committed: 1 to 10000"),
    COMMIT_MEGABYTES(
        "stream.commit.mb",
        "METALSTREAMS_COMMIT_MB",
        "40",
        "megabytes touched by a command buffer before it is committed: 1 to 65536"),
    COMMIT_IDLE(
        "stream.commit.idle.ms",
        "METALSTREAMS_COMMIT_IDLE_MS",
        "100",
        "time after which operations that nobody waits for are committed, in milliseconds; 0 ="
            + " never"),
    WATCHDOG(
        "wait.watchdog.ms",
        "METALSTREAMS_WATCHDOG_MS",
        "30000",
        "a wait without a time of its own fails when its stream makes no progress for so long; 0 ="
            + " never"),
    POLL(
        "wait.poll.us",
        "METALSTREAMS_WAIT_POLL_US",
        "20",
        "longest time that a wait polls before it blocks, in microseconds; a stream whose waits are longer"
            + " polls less; 0 = never"),
    CLOSE_TIMEOUT(
        "close.timeout.ms",
        "METALSTREAMS_CLOSE_TIMEOUT_MS",
        "10000",
        "longest wait of Device.close for work that is under way, in milliseconds"),
    SOFT_RATIO(
        "memory.soft.ratio",
        "PYTORCH_MPS_LOW_WATERMARK_RATIO",
        "0.85",
        "part of the recommended working set from which cached memory is trimmed: 0 to 2, 0 ="
            + " never"),
    HARD_RATIO(
        "memory.hard.ratio",
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
        "0.95",
        "part of the recommended working set that is never exceeded: 0 to 2, 0 = no limit"),
    STEAL(
        "memory.steal",
        "METALSTREAMS_MEMORY_STEAL",
        "complete",
        "under pressure, taking another stream's cached memory: never, complete (when unused) or"
            + " wait (ordered by an event)"),
    LEAKS(
        "memory.leaks",
        "METALSTREAMS_MEMORY_LEAKS",
        "simple",
        "reports of buffers dropped without close: disabled, simple, advanced or paranoid"),
    HISTORY(
        "memory.history",
        "METALSTREAMS_MEMORY_HISTORY",
        "0",
        "memory events kept for DeviceMemory.history: 0 to 1000000"),
    MEMORY_MODE(
        "memory.mode",
        "METALSTREAMS_MEMORY_MODE",
        "cached",
        "cached, no_cache (every close gives back to the driver) or poison (closed memory is"
            + " filled, and checked when reused)"),
    GRAPH_CACHE(
        "graph.cache.size",
        "METALSTREAMS_GRAPH_CACHE_SIZE",
        "64",
        "compiled graphs kept for reuse: 0 to 100000; those in use are kept in any case"),
    HOST_WORKERS(
        "host.workers",
        "METALSTREAMS_HOST_WORKERS",
        "0",
        "host backend: threads that execute work, 0 = one per CPU, at most 1024"),
    HOST_MATH(
        "host.math",
        "METALSTREAMS_HOST_MATH",
        "auto",
        "host backend: auto, builtin, or the path of a CBLAS library"),
    FORCE_GRAPH(
        "metal.force.graph",
        "MPS_FORCE_GRAPH_PATH",
        "0",
        "Metal: 1 sends every matrix product through MPSGraph; 0 leaves the choice to the shim"),
    COMMIT_AND_CONTINUE(
        "metal.commit.and.continue",
        "MPS_ENABLE_COMMIT_AND_CONTINUE",
        "stream 0",
        "Metal: 1 has the next command buffer made by the commit, on all streams; 0 on none; unset,"
            + " on stream 0 alone"),
    PARALLEL_COMPUTE(
        "metal.parallel.compute",
        "METALSTREAMS_METAL_PARALLEL_COMPUTE",
        "0",
        "Metal: 1 encodes compute kernels of several streams at once; 0 one after the other"),
    AGX_GUARD(
        "metal.agx.guard",
        "MST_AGX_GUARD",
        "0",
        "Metal: 1 keeps encoders apart from the GPU driver's destruction of others; 0 does not"),
    HAZARDS(
        "hazards",
        "METALSTREAMS_HAZARDS",
        "off",
        "races between streams, or stream and CPU, for memory: off, detect (reported) or order (the"
            + " missing wait is added)"),
    HAZARD_REPORT(
        "hazards.report",
        "METALSTREAMS_HAZARDS_REPORT",
        "throw",
        "how a race is reported: throw or log"),
    HAZARD_SAMPLE(
        "hazards.sample",
        "METALSTREAMS_HAZARDS_SAMPLE",
        "64",
        "after the first 1000 operations of a stream, one in so many has its call site looked up"
            + " for reports of races: 1 to 1000000"),
    DEBUG("debug", "PYTORCH_MPS_DEBUG", "0", "1 checks the lock order at run time; 0 does not");

    final String label;
    final String property;
    final String environment;
    final String fallback;
    final String description;

    Key(String label, String environment, String fallback, String description) {
      this.label = label;
      this.property = "metalstreams." + label;
      this.environment = environment;
      this.fallback = fallback;
      this.description = description;
    }
  }

  /** On which streams commits continue. */
  enum CommitAndContinue {
    NO_STREAM,
    STREAM_0,
    ALL_STREAMS;

    boolean includes(int stream) {
      return this == ALL_STREAMS || (this == STREAM_0 && stream == 0);
    }
  }

  private final List<Setting> all;
  private final Map<Key, String> values = new EnumMap<>(Key.class);

  final String backend;
  final String library;
  final int poolSize;
  final Exhaustion exhaustion;
  final Duration exhaustionTimeout;
  final int maxInFlight;
  final int commitOperations;
  final long commitBytes;
  final Duration commitIdle;
  final Duration watchdog;
  final Duration poll;
  final Duration closeTimeout;
  final double softLimit;
  final double hardLimit;
  final StealPolicy steal;
  final LeakLevel leakLevel;
  final int memoryHistory;
  final MemoryMode memoryMode;
  final int graphCacheSize;
  final int hostWorkers;
  final String hostMath;
  final CommitAndContinue commitAndContinue;
  final Set<DriverFlag> flags;
  final HazardMode hazards;
  final HazardReport hazardReport;
  final int hazardSample;
  final boolean debug;

  private Settings(
      Map<Key, String> builder,
      Function<String, @Nullable String> properties,
      Function<String, @Nullable String> environment) {
    List<Setting> resolved = new ArrayList<>();
    Map<Key, String> places = new EnumMap<>(Key.class);
    for (Key key : Key.values()) {
      String value = builder.get(key);
      String source = "builder";
      String place = "Device.Builder, " + key.label;
      if (value == null) {
        value = properties.apply(key.property);
        source = "property";
        place = "system property " + key.property;
      }
      if (value == null) {
        value = environment.apply(key.environment);
        source = "environment";
        place = "environment variable " + key.environment;
      }
      if (value == null) {
        value = key.fallback;
        source = "default";
        place = "default of " + key.label;
      }
      values.put(key, value.strip());
      places.put(key, place);
      resolved.add(
          new Setting(
              key.label, value.strip(), source, key.property, key.environment, key.description));
    }
    all = List.copyOf(resolved);
    Reader reader = new Reader(values, places);
    backend = reader.choice(Key.BACKEND, List.of("auto", "host", "metal"));
    library = reader.text(Key.LIBRARY);
    poolSize = reader.integer(Key.POOL_SIZE, 1, 1024);
    exhaustion = reader.constant(Key.POOL_EXHAUSTION, Exhaustion.class);
    exhaustionTimeout = reader.millis(Key.POOL_TIMEOUT);
    maxInFlight = reader.integer(Key.MAX_IN_FLIGHT, 1, 60);
    commitOperations = reader.integer(Key.COMMIT_OPERATIONS, 1, 10_000);
    commitBytes = (long) reader.integer(Key.COMMIT_MEGABYTES, 1, 65_536) << 20;
    commitIdle = reader.millis(Key.COMMIT_IDLE);
    watchdog = reader.millis(Key.WATCHDOG);
    poll = Duration.of(reader.integer(Key.POLL, 0, 1_000_000), ChronoUnit.MICROS);
    closeTimeout = reader.millis(Key.CLOSE_TIMEOUT);
    softLimit = reader.ratio(Key.SOFT_RATIO);
    hardLimit = reader.ratio(Key.HARD_RATIO);
    if (hardLimit != 0 && softLimit > hardLimit) {
      throw new IllegalArgumentException(
          places.get(Key.SOFT_RATIO)
              + ": "
              + softLimit
              + " is above the hard ratio "
              + hardLimit
              + " ("
              + places.get(Key.HARD_RATIO)
              + ")");
    }
    steal = reader.constant(Key.STEAL, StealPolicy.class);
    leakLevel = reader.constant(Key.LEAKS, LeakLevel.class);
    memoryHistory = reader.integer(Key.HISTORY, 0, 1_000_000);
    memoryMode = reader.constant(Key.MEMORY_MODE, MemoryMode.class);
    graphCacheSize = reader.integer(Key.GRAPH_CACHE, 0, 100_000);
    hostWorkers = reader.integer(Key.HOST_WORKERS, 0, 1024);
    hostMath = reader.text(Key.HOST_MATH);
    commitAndContinue = reader.commitAndContinue();
    flags = EnumSet.noneOf(DriverFlag.class);
    reader.flag(Key.FORCE_GRAPH, DriverFlag.FORCE_GRAPH, flags);
    reader.flag(Key.PARALLEL_COMPUTE, DriverFlag.PARALLEL_COMPUTE, flags);
    reader.flag(Key.AGX_GUARD, DriverFlag.AGX_GUARD, flags);
    hazards = reader.constant(Key.HAZARDS, HazardMode.class);
    hazardReport = reader.constant(Key.HAZARD_REPORT, HazardReport.class);
    hazardSample = reader.integer(Key.HAZARD_SAMPLE, 1, 1_000_000);
    debug = reader.integer(Key.DEBUG, 0, 1) == 1;
  }

  /** Resolves every setting. */
  static Settings resolve(
      Map<Key, String> builder,
      Function<String, @Nullable String> properties,
      Function<String, @Nullable String> environment) {
    return new Settings(builder, properties, environment);
  }

  /** Every setting with its value and where it came from. */
  public List<Setting> all() {
    return all;
  }

  /** Turns text into values and complains by the name of the place that held it. */
  private record Reader(Map<Key, String> values, Map<Key, String> places) {

    String text(Key key) {
      return values.getOrDefault(key, key.fallback);
    }

    String choice(Key key, List<String> choices) {
      String value = text(key).toLowerCase(Locale.ROOT);
      if (!choices.contains(value)) {
        throw malformed(key, "one of " + String.join(", ", choices));
      }
      return value;
    }

    <E extends Enum<E>> E constant(Key key, Class<E> type) {
      List<String> names = new ArrayList<>();
      for (E each : type.getEnumConstants()) {
        names.add(each.name().toLowerCase(Locale.ROOT));
      }
      return Enum.valueOf(type, choice(key, names).toUpperCase(Locale.ROOT));
    }

    void flag(Key key, DriverFlag flag, Set<DriverFlag> into) {
      if (integer(key, 0, 1) == 1) {
        into.add(flag);
      }
    }

    CommitAndContinue commitAndContinue() {
      Key key = Key.COMMIT_AND_CONTINUE;
      if (places.getOrDefault(key, "").startsWith("default")) {
        return CommitAndContinue.STREAM_0;
      }
      return integer(key, 0, 1) == 1 ? CommitAndContinue.ALL_STREAMS : CommitAndContinue.NO_STREAM;
    }

    double ratio(Key key) {
      try {
        double value = Double.parseDouble(text(key));
        if (value >= 0 && value <= 2) {
          return value;
        }
      } catch (NumberFormatException e) {
        // Said below in the same words as for a number out of range.
      }
      throw malformed(key, "a number from 0 to 2");
    }

    int integer(Key key, int least, int most) {
      try {
        int value = Integer.parseInt(text(key));
        if (value >= least && value <= most) {
          return value;
        }
      } catch (NumberFormatException e) {
        // Said below in the same words as for a number out of range.
      }
      throw malformed(key, "a whole number from " + least + " to " + most);
    }

    Duration millis(Key key) {
      return Duration.ofMillis(integer(key, 0, Integer.MAX_VALUE));
    }

    private IllegalArgumentException malformed(Key key, String takes) {
      return new IllegalArgumentException(
          places.get(key) + ": '" + text(key) + "' is not " + takes);
    }
  }
}
