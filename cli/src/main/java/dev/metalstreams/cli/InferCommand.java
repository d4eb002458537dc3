package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.Executable;
import dev.metalstreams.Tensor;
import dev.metalstreams.safetensors.Safetensors;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/** {@code infer}: a model over an input, from many threads at once. */
final class InferCommand implements Command {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private static final Parameter<Path> MODEL =
      Parameter.file(
          "model", "model, a safetensors file (default: the digit classifier that ships)");
  private static final Parameter<String> ARCH =
      Parameter.choice(
          "arch",
          Architecture.MLP.label(),
          "architecture of the model",
          Architecture.MLP.label(),
          Architecture.TRANSFORMER.label());
  private static final Parameter<Path> INPUT =
      Parameter.file("input", "samples, a safetensors file (default: the digits that ship)");
  private static final Parameter<Long> THREADS =
      Parameter.wholeNumber("threads", 1, 10_000, 8, "threads that run the model at once");
  private static final Parameter<Long> BATCH =
      Parameter.wholeNumber("batch", 1, 65_536, 1, "samples per run of the model");

  @Override
  public String name() {
    return "infer";
  }

  @Override
  public String summary() {
    return "runs a model over an input from many threads and compares with what is stored";
  }

  @Override
  public String description() {
    return """
        Runs a model over every sample of an input, from many threads, each on its own stream. Prints the accuracy if the
        input has labels, and the largest difference from the logits if it has those.

        The mlp has layers fc1 to fcN (.weight [out,in], .bias [out]) with ReLU between. The transformer has embed, pos,
        layers.0 to layers.N as PyTorch's TransformerEncoderLayer names them (4 heads, GELU, post-norm) and head, which
        takes the mean over the tokens. The input has x [samples,width], labels y (I32) and the logits [samples,classes]
        as mlp.logits, transformer.logits or logits; labels and logits may be absent.

        The checksum is of all results, bit by bit, in the order of the samples.""";
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(MODEL, ARCH, INPUT, THREADS, BATCH);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    Values values = invocation.values();
    Architecture architecture = Architecture.of(values.get(ARCH));
    Model model = readModel(values, architecture);
    Samples samples = readSamples(values, model, architecture);
    Device device = Devices.open(values, builder -> {});
    try {
      return new Run(invocation, device, model, samples).run();
    } catch (RuntimeException | Error e) {
      Devices.close(device, e);
      throw e;
    }
  }

  private static Model readModel(Values values, Architecture architecture) {
    try (Safetensors file =
        values.find(MODEL).map(Safetensors::open).orElseGet(architecture::shipped)) {
      return architecture.read(file);
    }
  }

  private static Samples readSamples(Values values, Model model, Architecture architecture) {
    try (Safetensors file = values.find(INPUT).map(Safetensors::open).orElseGet(Shipped::digits)) {
      return Samples.read(
          file,
          model.inputs(),
          model.outputs(),
          List.of(architecture.label() + ".logits", "logits"));
    }
  }

  /**
   * One run. Batch number b belongs to thread b mod threads, so that no two threads share a counter
   * or a result.
   */
  private static final class Run {
    private final Invocation invocation;
    private final Device device;
    private final Model model;
    private final Samples samples;
    private final int threads;
    private final int batch;
    private final int batches;
    private final float[] results; // each thread writes those of its samples
    private final Findings findings = new Findings();
    private final AtomicLong batchesDone = new AtomicLong();

    Run(Invocation invocation, Device device, Model model, Samples samples) {
      this.invocation = invocation;
      this.device = device;
      this.model = model;
      this.samples = samples;
      this.threads = invocation.values().getInt(THREADS);
      this.batch = Math.min(invocation.values().getInt(BATCH), samples.count());
      this.batches = Math.ceilDiv(samples.count(), batch);
      this.results = new float[Math.multiplyExact(samples.count(), model.outputs())];
    }

    ExitStatus run() {
      Executable full = device.compile(model.graph(batch));
      int last = samples.count() - (batches - 1) * batch;
      Executable rest = last == batch ? full : device.compile(model.graph(last));
      List<Tally> tallies = new ArrayList<>();
      List<Runnable> work = new ArrayList<>();
      for (int t = 0; t < threads; t++) {
        int thread = t;
        Tally tally = new Tally();
        tallies.add(tally);
        work.add(() -> work(thread, full, rest, tally));
      }
      Progress progress = new Progress(invocation.output());
      long begin = System.nanoTime();
      boolean ended;
      try {
        ended =
            Crew.run(
                work,
                Thread.ofPlatform().daemon().name("infer-", 0).factory(),
                batchesDone::get,
                PATIENCE,
                () ->
                    progress.show(
                        (double) batchesDone.get() / batches,
                        batchesDone + " of " + batches + " batches"),
                findings);
      } catch (InterruptedException e) {
        throw new IllegalStateException("interrupted", e);
      }
      double seconds = (System.nanoTime() - begin) / 1e9;
      progress.clear();
      Tally total = new Tally();
      if (ended) { // Else threads hang, and nothing may be closed under them or read from them.
        tallies.forEach(total::add);
        Devices.close(device, findings);
      }
      return conclude(total, seconds);
    }

    private void work(int thread, Executable full, Executable rest, Tally tally) {
      for (int b = thread; b < batches && !invocation.stop().requested(); b += threads) {
        int first = b * batch;
        int count = Math.min(batch, samples.count() - first);
        Executable executable = count == batch ? full : rest;
        tally.streams.set(device.streams().current().index());
        try (Tensor x = device.tensor(samples.slice(first, count), count, samples.width());
            Tensor y = executable.run(x)) {
          float[] values = y.toFloats();
          System.arraycopy(values, 0, results, first * model.outputs(), values.length);
          tally.count(samples, first, count, values);
        }
        batchesDone.incrementAndGet();
      }
    }

    /** Of the bits of all results. */
    private String checksum() {
      ByteBuffer bits = ByteBuffer.allocate(Math.multiplyExact(results.length, Float.BYTES));
      bits.asFloatBuffer().put(results);
      try {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(bits.array());
        return HexFormat.of().formatHex(hash, 0, 8);
      } catch (NoSuchAlgorithmException e) {
        throw new AssertionError("every Java platform has SHA-256", e);
      }
    }

    private ExitStatus conclude(Tally total, double seconds) {
      boolean stopped = invocation.stop().requested() && total.samples < samples.count();
      if (!stopped && total.samples != samples.count()) {
        findings.inTheEnd(
            "only " + total.samples + " of " + samples.count() + " samples came back");
      }
      if (total.outside > 0) {
        findings.mismatch(
            total.outside
                + " logits differ from the stored ones by more than 1e-4 + 1e-4*|b|; the largest difference is "
                + total.maxError);
      }
      Double accuracy =
          samples.labels().isPresent() && total.samples > 0
              ? (double) total.right / total.samples
              : null;
      Float maxError = samples.logits().isPresent() && total.samples > 0 ? total.maxError : null;
      String checksum = total.samples == samples.count() ? checksum() : null;
      double rate = total.samples / seconds;
      if (invocation.json()) {
        new Json()
            .put("ok", findings.none())
            .put("samples", total.samples)
            .put("accuracy", accuracy)
            .put("max_abs_error", maxError)
            .put("checksum", checksum)
            .put("samples_per_second", rate)
            .put("seconds", seconds)
            .put("threads", threads)
            .put("batch", batch)
            .put("streams_used", total.streams.cardinality())
            .put("backend", device.info().backend())
            .put("interrupted", stopped)
            .put("findings", findings.told())
            .print(invocation.output().out());
      } else {
        new Table()
            .row("result", findings.none() ? "ok" : "FAILED", stopped ? "(interrupted)" : "")
            .row("samples", Figures.count(total.samples))
            .row(
                "accuracy",
                accuracy == null ? "the input has no labels" : Figures.real(accuracy, 4))
            .row("max error", maxError == null ? "the input has no logits" : maxError)
            .row("checksum", checksum == null ? "not all samples came back" : checksum)
            .row("speed", Figures.real(rate, 0) + " samples/s")
            .row(
                "threads",
                threads + " on " + total.streams.cardinality() + " streams, batch " + batch)
            .row("backend", device.info().backend() + " (" + device.info().name() + ")")
            .print(invocation.output().out());
      }
      findings.print(invocation.output(), invocation.verbose());
      if (stopped) {
        return ExitStatus.INTERRUPTED;
      }
      return findings.none() ? ExitStatus.OK : ExitStatus.CHECK_FAILED;
    }
  }

  /** What one thread has seen; added up when all have ended. */
  private static final class Tally {
    final BitSet streams = new BitSet();
    int samples;
    int right;
    int outside;
    float maxError;

    void count(Samples all, int first, int count, float[] results) {
      int classes = results.length / count;
      for (int i = 0; i < count; i++) {
        int sample = first + i;
        int row = i * classes;
        if (all.labels().isPresent()
            && all.labels().get()[sample] == largest(results, row, classes)) {
          right++;
        }
        if (all.logits().isPresent()) {
          compare(results, row, all.logits().get(), sample * classes, classes);
        }
      }
      samples += count;
    }

    private static int largest(float[] values, int from, int count) {
      int largest = 0;
      for (int i = 1; i < count; i++) {
        if (values[from + i] > values[from + largest]) {
          largest = i;
        }
      }
      return largest;
    }

    private void compare(float[] got, int gotFrom, float[] want, int wantFrom, int count) {
      for (int i = 0; i < count; i++) {
        float wanted = want[wantFrom + i];
        float error = Math.abs(got[gotFrom + i] - wanted);
        maxError = Math.max(maxError, error); // NaN, once there, stays.
        if (!(error <= Tolerance.around(wanted))) {
          outside++;
        }
      }
    }

    void add(Tally other) {
      streams.or(other.streams);
      samples += other.samples;
      right += other.right;
      outside += other.outside;
      maxError = Math.max(maxError, other.maxError);
    }
  }
}
