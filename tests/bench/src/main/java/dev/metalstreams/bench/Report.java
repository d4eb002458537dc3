package dev.metalstreams.bench;

import dev.metalstreams.Device;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.regex.Pattern;
import org.openjdk.jmh.profile.GCProfiler;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * Asks every question and prints the answers: one table of what calls cost, one of allocations.
 *
 * <p>What is compared with C runs in this process, which the run script starts for the purpose, so
 * that rounds can be short and C's can lie between them; what is not runs in forks of JMH's.
 */
public final class Report {

  /** How long to measure. */
  record Effort(int forks, int forkMillis, int rounds, int roundMillis, int warmUpMillis) {
    static final Effort QUICK = new Effort(3, 300, 11, 300, 2_000);
    static final Effort FULL = new Effort(5, 1_000, 61, 1_000, 10_000);

    /** Shows that everything runs. */
    static final Effort SMOKE = new Effort(0, 10, 1, 10, 10);
  }

  /**
   * An answer.
   *
   * @param bytes allocated for an operation
   */
  record Row(
      String question, String goal, String measured, String ratio, String verdict, double bytes) {}

  private final Effort effort;
  private final CProgram c;
  private final List<Row> rows = new ArrayList<>();
  private double bytes;

  private Report(Effort effort, Path nativeBuild) {
    this.effort = effort;
    try (Device device = Device.builder().backend("host").open()) {
      this.c = new CProgram(nativeBuild, device.info().math());
    }
  }

  /**
   * {@code alloc} asks of allocations alone, {@code calls} of the rest alone; {@code --threads}
   * says for how many threads allocations are measured; {@code --full} takes its time.
   */
  public static void main(String[] arguments) throws RunnerException {
    boolean calls = true;
    boolean alloc = true;
    Effort effort = Effort.QUICK;
    List<Integer> threads = List.of(1, 2, 4, 8, 16);
    try {
      for (int i = 0; i < arguments.length; i++) {
        switch (arguments[i]) {
          case "calls" -> alloc = false;
          case "alloc" -> calls = false;
          case "--full" -> effort = Effort.FULL;
          case "--threads" -> threads = threads(arguments[++i]);
          default -> throw new IllegalArgumentException(arguments[i]);
        }
      }
    } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
      System.err.println("usage: run [calls | alloc] [--threads 1,2,4,8,16] [--full]");
      System.exit(2);
    }
    int cpus = Runtime.getRuntime().availableProcessors();
    double load = ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
    System.out.printf("%d CPUs, load %.1f%s%n", cpus, load, load > 0.5 * cpus ? ": BUSY" : "");
    NettyThreads.install();
    if (calls) {
      of(effort).print(System.out);
    }
    if (alloc) {
      AllocationReport.of(effort, threads).print(System.out);
    }
  }

  private static List<Integer> threads(String list) {
    List<Integer> threads = new ArrayList<>();
    for (String each : list.split(",", -1)) {
      int count = Integer.parseInt(each);
      if (count < 1 || count > Allocation.MOST_THREADS) {
        throw new IllegalArgumentException(each);
      }
      threads.add(count);
    }
    return threads;
  }

  static Report of(Effort effort) throws RunnerException {
    Report report = new Report(effort, Path.of(System.getProperty("metalstreams.bench.native")));
    report.askCurrentStream("own", "current(), the thread's own");
    report.askCurrentStream("scoped", "current(), within callWith");
    report.askEncode();
    for (int threads : new int[] {1, 2, 4}) {
      report.askMatmul(threads);
    }
    report.showRun();
    report.askHazards("detect", "at most 2.00 of off", 2);
    report.askHazards("order", "-", Double.POSITIVE_INFINITY);
    return report;
  }

  // ---- questions

  private void askCurrentStream(String method, String question) throws RunnerException {
    ChainedOptionsBuilder options =
        new OptionsBuilder().forks(effort.forks).warmupIterations(3).measurementIterations(5);
    double nanos =
        medianOfRows(
            jmh(CurrentStream.class, method, options, effort.forkMillis), CurrentStream.CALLS);
    row(
        question,
        "at most 5 ns",
        "%.2f ns".formatted(nanos),
        "%.2f of the goal".formatted(nanos / 5),
        nanos <= 5);
  }

  private void askEncode() throws RunnerException {
    Pairs pairs =
        pairs(
            millis -> encodeNanos("off", millis),
            seconds -> c.measure("ns_per_encode", "encode", "--seconds", seconds));
    row(
        "encode of a small executable",
        "at most 150 ns over C",
        "%.0f ns over C: %.0f, C %.0f".formatted(pairs.difference(), pairs.java(), pairs.c()),
        ratio(pairs),
        pairs.difference() <= 150);
  }

  private void askHazards(String mode, String goal, double most) throws RunnerException {
    double[] ofMode = new double[1];
    Pairs pairs =
        pairs(
            millis -> {
              double nanos = encodeNanos(mode, millis);
              ofMode[0] = bytes;
              return nanos;
            },
            seconds -> encodeNanos("off", effort.roundMillis));
    rows.add(
        new Row(
            "the same encode, hazards=" + mode,
            goal,
            "%.0f ns, off %.0f ns".formatted(pairs.java(), pairs.c()),
            "%.2f of off (%s)".formatted(pairs.ratio(), pairs.ratioRange()),
            pairs.ratio() <= most ? "held" : "MISSED",
            ofMode[0]));
  }

  private double encodeNanos(String hazards, int millis) throws RunnerException {
    ChainedOptionsBuilder options = inThisProcess(1).param("hazards", hazards);
    return medianOfRows(jmh(Encode.class, "row", options, millis), Encode.ENCODES);
  }

  private void askMatmul(int threads) throws RunnerException {
    Pairs pairs =
        pairs(
            millis -> round(Matmul.class, "runAndWait", threads, millis).getScore(),
            seconds ->
                c.measure(
                    "ops_per_second", "matmul", "--threads", "" + threads, "--seconds", seconds));
    row(
        "64x64 matmul and wait, threads: " + threads,
        "at least 0.90 of C",
        "%.0f/s, C %.0f/s".formatted(pairs.java(), pairs.c()),
        ratio(pairs),
        pairs.ratio() >= 0.9);
  }

  /** Has no goal: what the memory of a new result costs. */
  private void showRun() throws RunnerException {
    round(Matmul.class, "runAnewAndWait", 1, effort.warmUpMillis);
    double perSecond = round(Matmul.class, "runAnewAndWait", 1, effort.roundMillis).getScore();
    rows.add(
        new Row(
            "the same with a new result each",
            "-",
            "%.0f/s".formatted(perSecond),
            "-",
            "-",
            bytes));
  }

  // ---- measuring

  private interface JavaSide {
    double measure(int millis) throws RunnerException;
  }

  private interface CSide {
    double measure(String seconds) throws RunnerException;
  }

  /** Both sides in turn, after Java has warmed up. */
  private Pairs pairs(JavaSide java, CSide cSide) throws RunnerException {
    java.measure(effort.warmUpMillis);
    Pairs pairs = new Pairs();
    for (int i = 0; i < effort.rounds; i++) {
      if (i % 2 == 0) {
        double first = java.measure(effort.roundMillis);
        pairs.add(first, cSide.measure(seconds(effort.roundMillis)));
      } else {
        double first = cSide.measure(seconds(effort.roundMillis));
        pairs.add(java.measure(effort.roundMillis), first);
      }
    }
    return pairs;
  }

  /** One short measurement in this process. */
  private Result<?> round(Class<?> benchmark, String method, int threads, int millis)
      throws RunnerException {
    return jmh(benchmark, method, inThisProcess(threads), millis);
  }

  private static ChainedOptionsBuilder inThisProcess(int threads) {
    return new OptionsBuilder()
        .forks(0)
        .threads(threads)
        .warmupIterations(1)
        .measurementIterations(1);
  }

  /** Runs one benchmark; notes the bytes that an operation allocates, on all threads together. */
  private Result<?> jmh(
      Class<?> benchmark, String method, ChainedOptionsBuilder options, int millis)
      throws RunnerException {
    RunResult result = run(benchmark, method, options.addProfiler(GCProfiler.class), millis);
    bytes =
        Objects.requireNonNull(result.getSecondaryResults().get("gc.alloc.rate.norm")).getScore();
    return result.getPrimaryResult();
  }

  /** Runs one benchmark for so long, after a quarter of that to warm up. */
  static RunResult run(Class<?> benchmark, String method, ChainedOptionsBuilder options, int millis)
      throws RunnerException {
    return new Runner(
            options
                .include("^" + Pattern.quote(benchmark.getName() + "." + method) + "$")
                .warmupTime(TimeValue.milliseconds(Math.max(1, millis / 4)))
                .measurementTime(TimeValue.milliseconds(millis))
                .shouldFailOnError(true)
                .verbosity(VerboseMode.SILENT)
                .build())
        .runSingle();
  }

  /** What one of the operations takes in the median row of them. */
  private double medianOfRows(Result<?> rows, int operations) {
    bytes /= operations;
    return rows.getStatistics().getPercentile(50) / operations;
  }

  private static String seconds(int millis) {
    return String.format(Locale.ROOT, "%.3f", millis / 1000.0);
  }

  // ---- the table

  private static String ratio(Pairs pairs) {
    return "%.2f of C (%s)".formatted(pairs.ratio(), pairs.ratioRange());
  }

  private void row(String question, String goal, String measured, String ratio, boolean held) {
    rows.add(new Row(question, goal, measured, ratio, held ? "held" : "MISSED", bytes));
  }

  List<Row> rows() {
    return rows;
  }

  private void print(PrintStream out) {
    String line = "%-34s %-22s %-32s %-24s %-7s %8s%n";
    out.printf(line, "question", "goal", "measured", "ratio (middle half)", "", "bytes/op");
    for (Row row : rows) {
      out.printf(
          line,
          row.question,
          row.goal,
          row.measured,
          row.ratio,
          row.verdict,
          "%.1f".formatted(row.bytes));
    }
  }
}
