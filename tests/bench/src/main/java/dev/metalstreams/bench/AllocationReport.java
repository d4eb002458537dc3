package dev.metalstreams.bench;

import dev.metalstreams.bench.Report.Effort;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.OptionsBuilder;

/**
 * What {@link Allocation} asks, for several numbers of threads, in one table.
 *
 * <p>All of it runs in this process, the allocators in turn and in short rounds, so that what else
 * the machine does weighs on all of them alike; the median round counts.
 */
final class AllocationReport {
  /** At one thread. */
  private static final double GOAL_NANOS = 60;

  /** By how much one measurement may differ from another of the same thing. */
  private static final double NOISE = 0.1;

  /** Who is compared, in the order of the columns. */
  enum Allocator {
    DEVICE("device", "cache"),
    NETTY("netty", "Netty"),
    MALLOC("malloc", "malloc"),
    DEVICE_SHARED("deviceShared", "cache, shared"),
    NETTY_SHARED("nettyShared", "Netty, shared");

    private final String method;
    private final String title;

    Allocator(String method, String title) {
      this.method = method;
      this.title = title;
    }
  }

  /**
   * One number of threads.
   *
   * @param pairsPerMicro of all threads together
   */
  record Row(int threads, Map<Allocator, Double> pairsPerMicro) {

    double throughput(Allocator allocator) {
      return pairsPerMicro.getOrDefault(allocator, Double.NaN);
    }

    /** What a pair takes a thread, while the others do the same. */
    double nanos(Allocator allocator) {
      return threads * 1000 / throughput(allocator);
    }
  }

  private final List<Row> rows = new ArrayList<>();

  private AllocationReport() {}

  static AllocationReport of(Effort effort, List<Integer> threads) throws RunnerException {
    AllocationReport report = new AllocationReport();
    for (int count : threads) {
      report.rows.add(measure(effort, count));
    }
    return report;
  }

  private static Row measure(Effort effort, int threads) throws RunnerException {
    Map<Allocator, double[]> rounds = new EnumMap<>(Allocator.class);
    for (Allocator each : Allocator.values()) {
      rounds.put(each, new double[effort.rounds()]);
      round(each, threads, effort.warmUpMillis() / 2);
    }
    for (int i = 0; i < effort.rounds(); i++) {
      for (Map.Entry<Allocator, double[]> each : rounds.entrySet()) {
        each.getValue()[i] = round(each.getKey(), threads, effort.roundMillis());
      }
    }
    Map<Allocator, Double> medians = new EnumMap<>(Allocator.class);
    rounds.forEach(
        (allocator, scores) -> {
          Arrays.sort(scores);
          medians.put(allocator, scores[scores.length / 2]);
        });
    return new Row(threads, medians);
  }

  private static double round(Allocator allocator, int threads, int millis) throws RunnerException {
    return Report.run(
            Allocation.class,
            allocator.method,
            new OptionsBuilder()
                .forks(0)
                .threads(threads)
                .warmupIterations(1)
                .measurementIterations(1),
            millis)
        .getPrimaryResult()
        .getScore();
  }

  List<Row> rows() {
    return rows;
  }

  void print(PrintStream out) {
    out.printf(
        "allocate + close of %d KiB from the cache, each thread on a stream of its own;"
            + " ns for a pair on each thread%n"
            + "shared: another stream is recorded in between; Netty's has a second owner%n",
        Allocation.BYTES >> 10);
    StringBuilder title = new StringBuilder("%7s".formatted("threads"));
    for (Allocator each : Allocator.values()) {
      title.append("%15s".formatted(each.title));
    }
    out.printf("%s %18s  %s%n", title, "cache, pairs/us", "");
    double best = 0;
    for (Row row : rows) {
      StringBuilder line = new StringBuilder("%7d".formatted(row.threads));
      for (Allocator each : Allocator.values()) {
        line.append("%15.1f".formatted(row.nanos(each)));
      }
      out.printf("%s %18.2f  %s%n", line, row.throughput(Allocator.DEVICE), verdict(row, best));
      best = Math.max(best, row.throughput(Allocator.DEVICE));
    }
    out.printf(
        "goals: at most %.0f ns at one thread; no slower than Netty; throughput never falls as"
            + " threads are added (both within %.0f %%)%n",
        GOAL_NANOS, 100 * NOISE);
  }

  private static String verdict(Row row, double bestBefore) {
    List<String> missed = new ArrayList<>();
    if (row.threads == 1 && row.nanos(Allocator.DEVICE) > GOAL_NANOS) {
      missed.add("%.0f ns".formatted(GOAL_NANOS));
    }
    if (row.nanos(Allocator.DEVICE) > row.nanos(Allocator.NETTY) * (1 + NOISE)
        || row.nanos(Allocator.DEVICE_SHARED) > row.nanos(Allocator.NETTY_SHARED) * (1 + NOISE)) {
      missed.add("Netty");
    }
    if (row.throughput(Allocator.DEVICE) < bestBefore * (1 - NOISE)) {
      missed.add("throughput");
    }
    return missed.isEmpty() ? "held" : "MISSED: " + String.join(", ", missed);
  }
}
