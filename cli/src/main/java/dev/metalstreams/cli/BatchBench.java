package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.Executable;
import dev.metalstreams.Tensor;
import dev.metalstreams.batch.BatchStats;
import dev.metalstreams.batch.TensorBatcher;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadFactory;
import java.util.function.ToDoubleFunction;

/**
 * What batching brings: the digit classifier on batches made by hand, through the batch queue, and
 * without batches from as many threads.
 */
final class BatchBench implements Bench {
  static final String NAME = "batch";

  private static final List<Integer> BY_HAND = List.of(1, 8, 64, 256);
  private static final double NANOS_PER_MICRO = 1e3;

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "the digit classifier: batches by hand, through the batch queue, and none";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    return new Run(device, options, invocation, findings).measure();
  }

  /** One run. */
  private static final class Run {
    private final Device device;
    private final BenchOptions options;
    private final Invocation invocation;
    private final Findings findings;
    private final Model model = Architecture.MLP.read(Architecture.MLP.shipped());
    private final float[][] images;
    private final float[][] logits;

    Run(Device device, BenchOptions options, Invocation invocation, Findings findings) {
      this.device = device;
      this.options = options;
      this.invocation = invocation;
      this.findings = findings;
      Samples samples =
          Samples.read(
              Shipped.digits(),
              model.inputs(),
              model.outputs(),
              List.of(Architecture.MLP.label() + ".logits"));
      float[] all = samples.logits().orElseThrow();
      images = new float[samples.count()][];
      logits = new float[samples.count()][];
      for (int i = 0; i < images.length; i++) {
        images[i] = samples.slice(i, 1);
        logits[i] = Arrays.copyOfRange(all, i * model.outputs(), (i + 1) * model.outputs());
      }
    }

    Sheet measure() {
      int submitters = options.submitters();
      Sheet sheet =
          new Sheet(
              NAME,
              "Samples of the digit classifier per second",
              new Column("way", "way", 0),
              new Column("rate", "samples/s", 0),
              new Column("gain", "x batch 1", 2),
              new Column("batch", "batch", 1),
              new Column("wait_p99_us", "wait p99 us", 0),
              new Column("execution_p99_us", "execution p99 us", 0));
      Map<String, Queue> queues = new LinkedHashMap<>();
      queues.put(
          queueKey("virtual", 1), new Queue(Thread.ofVirtual().name("bench-", 0).factory(), 1));
      if (options.inFlight() > 1) {
        queues.put(
            queueKey("virtual", options.inFlight()),
            new Queue(Thread.ofVirtual().name("bench-", 0).factory(), options.inFlight()));
      }
      queues.put(
          queueKey("platform", options.inFlight()),
          new Queue(ThreadTrial.platformThreads(), options.inFlight()));
      Rounds rounds = new Rounds(invocation, NAME);
      BY_HAND.forEach(batch -> rounds.add(handKey(batch), byHand(batch)));
      rounds.add(
          "no batches, " + submitters + " virtual threads",
          unbatched(Thread.ofVirtual().name("bench-", 0).factory()));
      rounds.add(
          "no batches, " + submitters + " platform threads",
          unbatched(ThreadTrial.platformThreads()));
      queues.forEach(rounds::add);
      rounds.run(options.rounds(), share(0.6));

      // The size of its batches is known now: once more, beside batches of that size by hand.
      Rounds pairs = new Rounds(invocation, NAME);
      Map<String, Integer> formed = new LinkedHashMap<>();
      queues.forEach(
          (name, queue) ->
              queue
                  .median(BatchStats::meanSize)
                  .ifPresent(
                      size -> {
                        int batch = Math.toIntExact(Math.max(1, Math.round(size)));
                        formed.put(name, batch);
                        pairs.add(name, queue);
                        pairs.add(handKey(batch), byHand(batch));
                      }));
      if (!formed.isEmpty()) {
        pairs.run(options.rounds(), share(0.4));
      }
      conclude(sheet, rounds, pairs, queues, formed);
      return sheet;
    }

    private Duration share(double part) {
      return Duration.ofNanos((long) (options.duration().toNanos() * part));
    }

    private static String handKey(int batch) {
      return "by hand, batches of " + batch;
    }

    private String queueKey(String kind, int inFlight) {
      return "queue, "
          + options.submitters()
          + " "
          + kind
          + " threads, "
          + inFlight
          + " in flight each";
    }

    private void conclude(
        Sheet sheet,
        Rounds rounds,
        Rounds pairs,
        Map<String, Queue> queues,
        Map<String, Integer> formed) {
      Optional<Rate> one = rounds.rate(handKey(1));
      for (int batch : BY_HAND) {
        Optional<Rate> rate = rounds.rate(handKey(batch));
        sheet.row(
            handKey(batch),
            rate,
            Figures.ratio(rate, one),
            (double) batch,
            Optional.empty(),
            Optional.empty());
      }
      for (String kind : List.of("virtual", "platform")) {
        String name = "no batches, " + options.submitters() + " " + kind + " threads";
        Optional<Rate> rate = rounds.rate(name);
        sheet.row(name, rate, Figures.ratio(rate, one), 1.0, Optional.empty(), Optional.empty());
      }
      List<Json> comparisons = new ArrayList<>();
      queues.forEach(
          (name, queue) -> {
            Optional<Rate> rate = rounds.rate(name);
            Optional<Double> wait = queue.median(BatchStats::waitP99);
            Optional<Double> execution = queue.median(BatchStats::serveP99);
            sheet.row(
                name,
                rate,
                Figures.ratio(rate, one),
                queue.median(BatchStats::meanSize),
                wait.map(nanos -> nanos / NANOS_PER_MICRO),
                execution.map(nanos -> nanos / NANOS_PER_MICRO));
            String kind = name.contains("virtual") ? "virtual" : "platform";
            Optional<Double> overUnbatched =
                Figures.ratio(
                    rate,
                    rounds.rate("no batches, " + options.submitters() + " " + kind + " threads"));
            Optional<Double> overHand =
                Optional.ofNullable(formed.get(name))
                    .flatMap(batch -> Figures.ratio(pairs.rate(name), pairs.rate(handKey(batch))));
            if (overHand.isPresent() && overUnbatched.isPresent()) {
              sheet.remarks.add(
                  name
                      + ": "
                      + Figures.real(overHand.get(), 2)
                      + " of batches of "
                      + formed.get(name)
                      + " by hand, "
                      + Figures.real(overUnbatched.get(), 1)
                      + " times the same threads without batches");
            }
            comparisons.add(
                new Json()
                    .put("way", name)
                    .put("over_by_hand", overHand.orElse(null))
                    .put("by_hand_batch", formed.get(name))
                    .put("over_no_batches", overUnbatched.orElse(null))
                    .put("wait_p99_us", wait.map(nanos -> nanos / NANOS_PER_MICRO).orElse(null))
                    .put(
                        "execution_p99_us",
                        execution.map(nanos -> nanos / NANOS_PER_MICRO).orElse(null)));
          });
      sheet.figures.put("queues", comparisons);
      sheet.figures.put("max_delay_us", options.maxDelay().toNanos() / NANOS_PER_MICRO);
      sheet.charts.add(new Chart("samples per second", true, "way", List.of("rate")));
      sheet.conditions.add(
          "by hand: one thread puts rows together, uploads, runs, waits, reads; no pipelining");
      sheet.conditions.add(
          "without batches: each thread uploads one sample, runs, waits and reads, on its own"
              + " stream");
      sheet.conditions.add(
          "queue: TensorBatcher, one worker, at most "
              + options.maxBatch()
              + " rows, longest delay "
              + options.maxDelay().toNanos() / 1_000_000.0
              + " ms; each thread submits one sample at a time and waits for its oldest answer");
      sheet.conditions.add(
          "wait is from the submission to the start of the batch, execution from there to its end;"
              + " p99 of the queue's own figures");
      sheet.conditions.add("the last answer of each thread is compared with PyTorch's logits");
    }

    // ---- the ways

    private Rounds.Trial byHand(int batch) {
      return nanos -> {
        try (Executable executable = device.compile(model.graph(batch))) {
          return new ThreadTrial(1, batch, () -> new ByHand(executable, batch), findings)
              .measure(nanos);
        }
      };
    }

    private Rounds.Trial unbatched(ThreadFactory factory) {
      return nanos -> {
        try (Executable executable = device.compile(model.graph(1))) {
          return new ThreadTrial(
                  options.submitters(), factory, 1, () -> new ByHand(executable, 1), findings)
              .measure(nanos);
        }
      };
    }

    private final class ByHand implements ThreadTrial.Job {
      private final Executable executable;
      private final int batch;
      private final float[] rows;
      private float[] answer = {};
      private int next;
      private int last;

      ByHand(Executable executable, int batch) {
        this.executable = executable;
        this.batch = batch;
        this.rows = new float[batch * model.inputs()];
      }

      @Override
      public void run() {
        last = next;
        for (int i = 0; i < batch; i++) {
          System.arraycopy(images[next], 0, rows, i * model.inputs(), model.inputs());
          next = (next + 1) % images.length;
        }
        try (Tensor x = device.tensor(rows, batch, model.inputs());
            Tensor y = executable.run(x)) {
          answer = y.toFloats();
        }
      }

      @Override
      public void close() {
        for (int i = 0; i < batch; i++) {
          int row = i * model.outputs();
          check(Arrays.copyOfRange(answer, row, row + model.outputs()), (last + i) % images.length);
        }
      }
    }

    private void check(float[] answer, int image) {
      for (int i = 0; i < answer.length; i++) {
        if (!(Math.abs(answer[i] - logits[image][i]) <= Tolerance.around(logits[image][i]))) {
          findings.mismatch("image " + image + " has the wrong logit " + i + ": " + answer[i]);
          return;
        }
      }
    }

    /** Submitters at a queue of their own for each round. */
    private final class Queue implements Rounds.Trial {
      private final ThreadFactory factory;
      private final int inFlight;
      private final List<BatchStats> stats = new ArrayList<>();

      Queue(ThreadFactory factory, int inFlight) {
        this.factory = factory;
        this.inFlight = inFlight;
      }

      @Override
      public double measure(long nanos) {
        try (TensorBatcher batcher =
            TensorBatcher.builder(device, model::graph)
                .buckets(buckets(options.maxBatch()))
                .queue(
                    queue ->
                        queue
                            .maxDelay(options.maxDelay())
                            .capacity(Math.max(1024, options.submitters() * inFlight)))
                .build()) {
          double rate =
              new ThreadTrial(
                      options.submitters(),
                      factory,
                      1,
                      () -> new Submitter(batcher, inFlight),
                      findings)
                  .measure(nanos);
          stats.add(batcher.stats());
          return rate;
        }
      }

      /** Of the rounds that count. */
      Optional<Double> median(ToDoubleFunction<BatchStats> figure) {
        List<Double> all = stats.stream().skip(1).map(each -> figure.applyAsDouble(each)).toList();
        return all.isEmpty() ? Optional.empty() : Optional.of(Rate.of(all).median());
      }
    }

    private final class Submitter implements ThreadTrial.Job {
      private final TensorBatcher batcher;
      private final int inFlight;
      private final Deque<CompletableFuture<float[]>> answers = new ArrayDeque<>();
      private int submitted;
      private int answered;

      Submitter(TensorBatcher batcher, int inFlight) {
        this.batcher = batcher;
        this.inFlight = inFlight;
      }

      @Override
      public void run() {
        while (answers.size() < inFlight) {
          answers.add(batcher.submit(images[submitted++ % images.length]));
        }
        Objects.requireNonNull(answers.poll()).join();
        answered++;
      }

      @Override
      public void close() {
        while (!answers.isEmpty()) {
          check(answers.remove().join(), answered++ % images.length);
        }
      }
    }
  }

  /** Eight for each doubling: at most a ninth of a batch is padding. */
  static int[] buckets(int most) {
    SortedSet<Integer> sizes = new TreeSet<>();
    for (int power = 1; power < most; power *= 2) {
      int step = Math.max(1, power / 8);
      for (int size = power; size < Math.min(2 * power, most); size += step) {
        sizes.add(size);
      }
    }
    sizes.add(most);
    return sizes.stream().mapToInt(Integer::intValue).toArray();
  }
}
