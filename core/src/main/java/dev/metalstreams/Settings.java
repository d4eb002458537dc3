package dev.metalstreams;

import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
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
    WATCHDOG(
        "wait.watchdog.ms",
        "METALSTREAMS_WATCHDOG_MS",
        "30000",
        "a wait without a time of its own fails when its stream makes no progress for so long; 0 = never"),
    CLOSE_TIMEOUT(
        "close.timeout.ms",
        "METALSTREAMS_CLOSE_TIMEOUT_MS",
        "10000",
        "longest wait of Device.close for work that is under way, in milliseconds"),
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
  final Duration watchdog;
  final Duration closeTimeout;
  final int hostWorkers;
  final String hostMath;
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
    exhaustion =
        Exhaustion.valueOf(
            reader
                .choice(Key.POOL_EXHAUSTION, List.of("oversubscribe", "fail", "wait", "timeout"))
                .toUpperCase(Locale.ROOT));
    exhaustionTimeout = reader.millis(Key.POOL_TIMEOUT);
    maxInFlight = reader.integer(Key.MAX_IN_FLIGHT, 1, 60);
    commitOperations = reader.integer(Key.COMMIT_OPERATIONS, 1, 10_000);
    commitBytes = (long) reader.integer(Key.COMMIT_MEGABYTES, 1, 65_536) << 20;
    watchdog = reader.millis(Key.WATCHDOG);
    closeTimeout = reader.millis(Key.CLOSE_TIMEOUT);
    hostWorkers = reader.integer(Key.HOST_WORKERS, 0, 1024);
    hostMath = reader.text(Key.HOST_MATH);
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
