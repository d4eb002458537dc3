package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.driver.DeviceInfo;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** {@code repro}: known defects below this library, and how often they strike. */
final class ReproCommand implements Command {
  private static final Parameter<String> DEFECT =
      Parameter.choice("DEFECT", Optional.empty(), "what to run", Defect.labels());
  private static final Parameter<Long> ROUNDS =
      Parameter.wholeNumber("rounds", 1, 100_000, 10, "rounds with each number of threads");
  private static final Parameter<Long> THREADS =
      Parameter.wholeNumber("threads", 1, 64, 8, "most threads; fewer are run before, from one on");
  private static final Parameter<Long> ITERATIONS =
      Parameter.wholeNumber(
          "iterations", 1, 1_000_000, 50, "command buffers of each thread in a round");
  private static final Parameter<Duration> TIMEOUT =
      Parameter.duration("timeout", Optional.of("1m"), "after which a round counts as hung");

  /** Where the reports of others saw differences. */
  private static final int[] STEPS = {1, 2, 3, 4, 8, 16, 31};

  /** The rounds with one number of threads. */
  private static final class Row {
    final int threads;
    final Map<ReproRounds.Kind, Integer> counts = new EnumMap<>(ReproRounds.Kind.class);
    int rounds;
    String words = "";

    Row(int threads) {
      this.threads = threads;
    }

    void add(ReproRounds.Round round) {
      rounds++;
      counts.merge(round.kind(), 1, Integer::sum);
      if (round.kind() != ReproRounds.Kind.SUCCEEDED) {
        words = round.words();
      }
    }

    int count(ReproRounds.Kind kind) {
      return counts.getOrDefault(kind, 0);
    }

    int succeeded() {
      return count(ReproRounds.Kind.SUCCEEDED);
    }
  }

  @Override
  public String name() {
    return "repro";
  }

  @Override
  public String summary() {
    return "runs a known defect of Apple's stack in child processes and prints how often it"
        + " strikes";
  }

  @Override
  public String description() {
    return """
    Runs what this library keeps from happening, without its workarounds, and prints a table of thread counts against
    success rates. Each round is a process of its own, so that a crash is counted and nothing else. What comes out is
    a measurement: exit status 0 says that the rounds were run.

    ndarray-matmul         products by MPSNDArrayMatrixMultiplication, encoded by all threads at once (macOS 15)
    compute-kernel         compute kernels, encoded by all threads at once
    shared-command-buffer  all threads encode into one command buffer: API misuse, and no defect when it fails

    Needs the Metal backend. On the simulated Metal the defects are switched on by its environment variables.\
    """;
  }

  @Override
  public Optional<Parameter<String>> operand() {
    return Optional.of(DEFECT);
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(ROUNDS, THREADS, ITERATIONS, TIMEOUT);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    Values values = invocation.values();
    Defect defect = Defect.of(values.operand());
    DeviceInfo info;
    try (Device device = Devices.open(values, builder -> {})) {
      info = device.info();
    }
    if (!info.backend().equals("metal")) {
      return unusable(
          "repro needs the Metal backend, for the defects are those of Apple's stack; here the"
              + " backend is "
              + info.backend(),
          invocation);
    }
    ReproRounds rounds = ReproRounds.ofProcess(values.get(TIMEOUT));
    List<Row> rows = new ArrayList<>();
    Progress progress = new Progress(invocation.output());
    List<Integer> counts = threadCounts(values.getInt(THREADS));
    int perRow = values.getInt(ROUNDS);
    for (int threads : counts) {
      Row row = new Row(threads);
      rows.add(row);
      for (int i = 0; i < perRow && !invocation.stop().requested(); i++) {
        double done = (rows.size() - 1) * (double) perRow + i;
        progress.show(
            done / ((double) counts.size() * perRow),
            threads + " threads, round " + (i + 1) + " of " + perRow);
        ReproRounds.Round round =
            rounds.run(
                List.of(
                    defect.label(),
                    info.library(),
                    Integer.toString(threads),
                    Integer.toString(values.getInt(ITERATIONS))));
        if (round.kind() == ReproRounds.Kind.UNSUPPORTED) {
          progress.clear();
          return unusable(defect.label() + " cannot be run here: " + round.words(), invocation);
        }
        row.add(round);
      }
    }
    progress.clear();
    boolean stopped = invocation.stop().requested();
    if (invocation.json()) {
      json(defect, info, rows, stopped).print(invocation.output().out());
    } else {
      print(defect, info, rows, invocation.output().out());
    }
    return stopped ? ExitStatus.INTERRUPTED : ExitStatus.OK;
  }

  /** The steps below the most, and the most. */
  static List<Integer> threadCounts(int most) {
    List<Integer> counts = new ArrayList<>();
    for (int step : STEPS) {
      if (step < most) {
        counts.add(step);
      }
    }
    counts.add(most);
    return counts;
  }

  private static ExitStatus unusable(String why, Invocation invocation) {
    if (invocation.json()) {
      new Json().put("ok", false).put("error", why).print(invocation.output().out());
    }
    invocation.output().complain(why);
    return ExitStatus.NO_BACKEND;
  }

  private static Json json(Defect defect, DeviceInfo info, List<Row> rows, boolean stopped) {
    return new Json()
        .put("defect", defect.label())
        .put("api_misuse", defect.isMisuse())
        .put("rounds", rows.stream().mapToInt(row -> row.rounds).sum())
        .put("succeeded", rows.stream().mapToInt(Row::succeeded).sum())
        .put("threads", rows.stream().map(ReproCommand::json).toList())
        .put("backend", info.backend())
        .put("device", info.name())
        .put("interrupted", stopped);
  }

  private static Json json(Row row) {
    return new Json()
        .put("threads", row.threads)
        .put("rounds", row.rounds)
        .put("succeeded", row.succeeded())
        .put("success_rate", row.succeeded() / (double) row.rounds)
        .put("crashed", row.count(ReproRounds.Kind.CRASHED))
        .put("wrong", row.count(ReproRounds.Kind.WRONG))
        .put("failed", row.count(ReproRounds.Kind.FAILED))
        .put("hung", row.count(ReproRounds.Kind.HUNG))
        .put("last_words", row.words);
  }

  private static void print(Defect defect, DeviceInfo info, List<Row> rows, PrintStream out) {
    out.println(defect.label() + " on " + info.name() + ": " + defect.does());
    out.println(defect.expected());
    out.println();
    Table table =
        new Table()
            .row(
                "threads", "rounds", "succeeded", "rate", "crashed", "wrong", "failed", "hung", "");
    for (Row row : rows) {
      table.row(
          row.threads,
          row.rounds,
          row.succeeded(),
          row.rounds == 0
              ? "-"
              : String.format(Locale.ROOT, "%.0f %%", 100.0 * row.succeeded() / row.rounds),
          row.count(ReproRounds.Kind.CRASHED),
          row.count(ReproRounds.Kind.WRONG),
          row.count(ReproRounds.Kind.FAILED),
          row.count(ReproRounds.Kind.HUNG),
          row.words);
    }
    table.print(out);
  }
}
