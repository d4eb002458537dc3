package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import dev.metalstreams.cli.Sheet.Column;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.IntFunction;

/** {@code tune}: the settings that serve a shape best on this machine. */
final class TuneCommand implements Command {
  private static final Parameter<List<Integer>> SHAPE =
      new Parameter<>(
          "shape",
          "NxN...",
          "2 to 16 whole numbers from 1 to 8192 with x between them",
          Optional.of("64x256x128x10"),
          "values of a sample, then those of each layer's result",
          TuneCommand::parseShape);
  private static final Parameter<List<Integer>> THREADS =
      Parameter.wholeNumbers("threads", 1, 1000, "1,2,4,8,16", "numbers of threads to try");
  private static final Parameter<Long> MAX_BATCH =
      Parameter.wholeNumber("max-batch", 1, 4096, 256, "largest batch to try");
  private static final Parameter<Duration> LATENCY =
      Parameter.duration(
          "latency",
          Optional.empty(),
          "longest that a thread may take from an upload to its results, in the mean (default: any)");
  private static final Parameter<Duration> DURATION =
      Parameter.duration("duration", Optional.of("20s"), "time for all of it, about");

  private static final int ROUNDS = 3;
  private static final int MOST_BETWEEN_WAITS = 64;

  /** As good as the best: more threads or larger batches for less than this are not worth it. */
  private static final double GOOD_ENOUGH = 0.95;

  private static List<Integer> parseShape(String text) {
    List<Integer> shape = new ArrayList<>();
    for (String each : text.split("x", -1)) {
      int extent = Integer.parseInt(each);
      if (extent < 1 || extent > 8192) {
        throw new IllegalArgumentException("out of bounds");
      }
      shape.add(extent);
    }
    if (shape.size() < 2 || shape.size() > 16) {
      throw new IllegalArgumentException("not so many");
    }
    return List.copyOf(shape);
  }

  @Override
  public String name() {
    return "tune";
  }

  @Override
  public String summary() {
    return "finds the batch size, the waits and the number of threads that serve a shape best";
  }

  @Override
  public String description() {
    return """
        Measures a stack of linear layers with ReLU between them, each sample uploaded and each result read: first batch
        sizes, then how many batches a thread runs between two waits, then numbers of threads, each with the choice before.
        Of the settings within 5 % of the best the smallest is taken; with --latency, of those that meet it.""";
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(SHAPE, THREADS, MAX_BATCH, LATENCY, DURATION);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    Findings findings = new Findings();
    Device device = Devices.open(invocation.values(), builder -> {});
    Search search;
    try {
      search = new Search(device, invocation, findings);
      search.run();
    } catch (RuntimeException | Error e) {
      Devices.close(device, e);
      throw e;
    }
    Devices.close(device, findings);
    search.print();
    findings.print(invocation.output(), invocation.verbose());
    if (invocation.stop().requested()) {
      return ExitStatus.INTERRUPTED;
    }
    return findings.none() ? ExitStatus.OK : ExitStatus.CHECK_FAILED;
  }

  /** What a thread does. */
  private record Setting(int threads, int syncEvery, int batch) {}

  private static final class Search {
    private final Device device;
    private final Invocation invocation;
    private final Findings findings;
    private final List<Integer> shape;
    private final List<Integer> threadCounts;
    private final Duration step;
    private final Optional<Duration> latency;
    private final Sheet sheet =
        new Sheet(
            "tune",
            "What was tried",
            new Column("threads", "threads", 0),
            new Column("sync_every", "wait every", 0),
            new Column("batch", "batch", 0),
            new Column("samples_per_second", "samples/s", 0),
            new Column("latency_us", "mean us", 0),
            new Column("taken", "", 0));
    private Optional<Integer> batch = Optional.empty();
    private Optional<Integer> syncEvery = Optional.empty();
    private Optional<Integer> threads = Optional.empty();
    private Optional<Rate> rate = Optional.empty();
    private Optional<Rate> simple = Optional.empty();

    Search(Device device, Invocation invocation, Findings findings) {
      Values values = invocation.values();
      this.device = device;
      this.invocation = invocation;
      this.findings = findings;
      this.shape = values.get(SHAPE);
      this.threadCounts = values.get(THREADS);
      this.latency = values.find(LATENCY);
      this.step = values.get(DURATION).dividedBy(3);
    }

    void run() {
      int most = invocation.values().getInt(MAX_BATCH);
      int few = threadCounts.getFirst();
      batch = choose("batch size", powers(most), size -> new Setting(few, 1, size));
      batch.ifPresent(
          size ->
              syncEvery =
                  choose(
                      "waits", powers(MOST_BETWEEN_WAITS), every -> new Setting(few, every, size)));
      syncEvery.ifPresent(
          every ->
              threads =
                  choose(
                      "threads",
                      threadCounts,
                      count -> new Setting(count, every, batch.orElseThrow())));
    }

    private static List<Integer> powers(int most) {
      List<Integer> powers = new ArrayList<>();
      for (int power = 1; power < most; power *= 2) {
        powers.add(power);
      }
      powers.add(most);
      return powers;
    }

    /** Measures candidates and takes one; none if the user stopped it before all were measured. */
    private Optional<Integer> choose(
        String what, List<Integer> candidates, IntFunction<Setting> setting) {
      Rounds rounds = new Rounds(invocation, what);
      for (int candidate : candidates) {
        rounds.add(String.valueOf(candidate), trial(setting.apply(candidate)));
      }
      rounds.run(ROUNDS, step);
      NavigableMap<Integer, Rate> measured = new TreeMap<>();
      for (int candidate : candidates) {
        rounds.rate(String.valueOf(candidate)).ifPresent(r -> measured.put(candidate, r));
      }
      Optional<Integer> taken =
          measured.size() < candidates.size()
              ? Optional.empty()
              : Optional.of(take(measured, setting));
      measured.forEach(
          (candidate, each) -> {
            Setting tried = setting.apply(candidate);
            sheet.row(
                tried.threads,
                tried.syncEvery,
                tried.batch,
                each,
                micros(tried, each),
                taken.equals(Optional.of(candidate)) ? "taken" : "");
            if (tried.equals(new Setting(threadCounts.getFirst(), 1, 1)) && simple.isEmpty()) {
              simple = Optional.of(each);
            }
          });
      if (taken.isPresent()) {
        rate = Optional.ofNullable(measured.get(taken.get()));
      }
      return taken;
    }

    private int take(NavigableMap<Integer, Rate> measured, IntFunction<Setting> setting) {
      NavigableMap<Integer, Rate> allowed = new TreeMap<>(measured);
      latency.ifPresent(
          limit ->
              allowed
                  .entrySet()
                  .removeIf(
                      each ->
                          micros(setting.apply(each.getKey()), each.getValue())
                              > limit.toNanos() / 1e3));
      if (allowed.isEmpty()) {
        return measured.firstKey(); // what comes nearest
      }
      double best = allowed.values().stream().mapToDouble(Rate::median).max().orElse(0);
      for (Map.Entry<Integer, Rate> each : allowed.entrySet()) {
        if (each.getValue().median() >= GOOD_ENOUGH * best) {
          return each.getKey();
        }
      }
      return allowed.firstKey();
    }

    /** Mean time from a thread's first upload to the results of all that it has under way. */
    private static double micros(Setting setting, Rate rate) {
      return 1e6 * setting.threads * setting.syncEvery * setting.batch / rate.median();
    }

    private Rounds.Trial trial(Setting setting) {
      return nanos -> {
        try (Executable executable = device.compile(layers(setting.batch))) {
          return new ThreadTrial(
                  setting.threads,
                  setting.syncEvery * setting.batch,
                  () -> new Batches(executable, setting),
                  findings)
              .measure(nanos);
        }
      };
    }

    private Graph layers(int rows) {
      SplittableRandom random = new SplittableRandom(invocation.seed());
      return Graph.build(
          g -> {
            Node values = g.input("x", DType.F32, rows, shape.getFirst());
            for (int i = 1; i < shape.size(); i++) {
              Node weight =
                  g.constant(
                      values(random, shape.get(i) * shape.get(i - 1)),
                      shape.get(i),
                      shape.get(i - 1));
              Node bias = g.constant(values(random, shape.get(i)), shape.get(i));
              values = g.linear(i == 1 ? values : g.relu(values), weight, bias);
            }
            g.output("y", values);
          });
    }

    private static float[] values(SplittableRandom random, int count) {
      float[] values = new float[count];
      for (int i = 0; i < count; i++) {
        values[i] = (float) random.nextDouble(-0.1, 0.1);
      }
      return values;
    }

    private final class Batches implements ThreadTrial.Job {
      private final DeviceStream stream = device.streams().current();
      private final Executable executable;
      private final Setting setting;
      private final float[] rows;
      private final float[] results;

      Batches(Executable executable, Setting setting) {
        this.executable = executable;
        this.setting = setting;
        this.rows =
            values(new SplittableRandom(invocation.seed()), setting.batch * shape.getFirst());
        this.results = new float[setting.batch * shape.getLast()];
      }

      @Override
      public void run() {
        List<Tensor> pending = new ArrayList<>(setting.syncEvery);
        try {
          for (int i = 0; i < setting.syncEvery; i++) {
            try (Tensor x = device.tensor(rows, setting.batch, shape.getFirst())) {
              pending.add(executable.run(stream, x));
            }
          }
          stream.record().await();
          pending.forEach(each -> each.toFloats(results));
        } finally {
          pending.forEach(Tensor::close);
        }
      }

      @Override
      public void close() {
        for (float each : results) {
          if (!Float.isFinite(each)) {
            findings.mismatch("a result is " + each);
            return;
          }
        }
      }
    }

    // ---- what was found

    void print() {
      PrintStream out = invocation.output().out();
      Optional<Double> gain = Figures.ratio(rate, simple);
      if (invocation.json()) {
        new Json()
            .put("threads", threads.orElse(null))
            .put("sync_every", syncEvery.orElse(null))
            .put("batch", batch.orElse(null))
            .put("samples_per_second", rate.map(Rate::median).orElse(null))
            .put("gain", gain.orElse(null))
            .put("shape", shape)
            .put("backend", device.info().backend())
            .put("device", device.info().name())
            .put("tried", sheet.jsonRows())
            .put("ok", findings.none())
            .put("interrupted", invocation.stop().requested())
            .put("findings", findings.told())
            .print(out);
        return;
      }
      sheet.print(out);
      new Table()
          .row("shape", String.join("x", shape.stream().map(String::valueOf).toList()))
          .row("device", device.info().backend() + ": " + device.info().name())
          .row("threads", threads.map(String::valueOf).orElse("not found yet"))
          .row("wait every", syncEvery.map(n -> n + " batches").orElse("not found yet"))
          .row("batch", batch.map(n -> n + " rows").orElse("not found yet"))
          .row("speed", rate.map(r -> Figures.real(r.median(), 0) + " samples/s").orElse("-"))
          .row(
              "gain",
              gain.map(
                      g ->
                          Figures.real(g, 1)
                              + " times "
                              + threadCounts.getFirst()
                              + (threadCounts.getFirst() == 1 ? " thread" : " threads")
                              + " with single samples and a wait after each")
                  .orElse("-"))
          .print(out);
      if (threads.isPresent() && batch.isPresent()) {
        out.println();
        out.println("To use it:");
        out.println("  Executors.newFixedThreadPool(" + threads.get() + ")");
        out.println(
            "  TensorBatcher.builder(device, graph).buckets(1, ..., "
                + batch.get()
                + ").queue(q -> q.workers("
                + threads.get()
                + ").pipeline("
                + Math.min(syncEvery.orElse(1), 4)
                + "))");
      }
    }
  }
}
