package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.MemoryMode;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.util.List;
import java.util.Optional;

/** What memory costs: from a stream's cache, and from the driver. */
final class AllocBench implements Bench {
  static final String NAME = "alloc";

  private static final List<Long> BYTES = List.of(1L << 12, 1L << 16, 1L << 20, 1L << 24);
  private static final int MANY = 4;

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "allocate and close: from the caches, from the driver, from 4 threads";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    Sheet sheet =
        new Sheet(
            NAME,
            "Allocate and close: nanoseconds for one pair, and pairs per second",
            new Column("bytes", "bytes", 0),
            new Column("cached", "cached ns", 0),
            new Column("driver", "driver ns", 0),
            new Column("gain", "gain", 1),
            new Column("cached_4_threads", "4 threads, cached /s", 0),
            new Column("driver_4_threads", "4 threads, driver /s", 0));
    Device bare =
        Devices.open(invocation.values(), builder -> builder.memoryMode(MemoryMode.NO_CACHE));
    try {
      Rounds rounds = new Rounds(invocation, NAME);
      for (long bytes : BYTES) {
        for (int threads : List.of(1, MANY)) {
          rounds.add(key(bytes, threads, "cached"), trial(device, bytes, threads, findings));
          rounds.add(key(bytes, threads, "driver"), trial(bare, bytes, threads, findings));
        }
      }
      rounds.run(options.rounds(), options.duration());
      for (long bytes : BYTES) {
        Optional<Rate> cached = rounds.rate(key(bytes, 1, "cached"));
        Optional<Rate> driver = rounds.rate(key(bytes, 1, "driver"));
        sheet.row(
            bytes,
            cached.map(Rate::nanosEach),
            driver.map(Rate::nanosEach),
            Figures.ratio(cached, driver),
            rounds.rate(key(bytes, MANY, "cached")),
            rounds.rate(key(bytes, MANY, "driver")));
      }
    } catch (RuntimeException | Error e) {
      Devices.close(bare, e);
      throw e;
    }
    Devices.close(bare, findings);
    sheet.charts.add(
        new Chart(
            "pairs per second from 4 threads",
            false,
            "bytes",
            List.of("cached_4_threads", "driver_4_threads")));
    sheet.conditions.add("each thread allocates on its own stream and closes, without using it");
    sheet.conditions.add(
        "'driver' is a second device with the setting memory.mode=no_cache, measured in turn with the first");
    return sheet;
  }

  private static Rounds.Trial trial(Device device, long bytes, int threads, Findings findings) {
    return new ThreadTrial(
        threads,
        1,
        () -> {
          DeviceStream stream = device.streams().current();
          return new ThreadTrial.Job() {
            @Override
            public void run() {
              DeviceBuffer buffer = device.allocate(bytes, stream);
              buffer.close();
            }

            @Override
            public void close() {}
          };
        },
        findings);
  }

  private static String key(long bytes, int threads, String from) {
    return Figures.bytes(bytes) + ", " + threads + " threads, " + from;
  }
}
