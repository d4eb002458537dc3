package dev.metalstreams.bench;

import dev.metalstreams.safetensors.Safetensors;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * The digit classifiers here, in ONNX Runtime and in PyTorch, side by side on this CPU.
 *
 * <p>Every engine computes with one thread within a call, and is called by as many threads as the
 * others. A call goes from a {@code float[]} to a {@code float[]}. Before anything is timed, the
 * results of all are compared with the stored ones. The engines take turns in short rounds, and
 * what is printed are medians. Of a peer that can run a network in two ways, the faster one counts.
 */
public final class Engines {
  private static final float TOLERANCE = 1e-4f;
  private static final int[] BATCHES = {1, 8, 64};
  private static final int[] THREADS = {1, 2};

  /** How long to measure. */
  private record Effort(int rounds, int roundMillis, int warmUpMillis) {
    static final Effort QUICK = new Effort(15, 60, 400);
    static final Effort FULL = new Effort(61, 100, 2_000);
  }

  /** A way to run a network. */
  private record Way(String name, Engine engine, List<Engine.Session> sessions) {}

  private final Path data;
  private final Effort effort;
  private final PrintStream out;
  private int behind;

  private Engines(Path data, Effort effort, PrintStream out) {
    this.data = data;
    this.effort = effort;
    this.out = out;
  }

  /** {@code --full} takes its time. */
  public static void main(String[] arguments) throws Exception {
    boolean full = Arrays.equals(arguments, new String[] {"--full"});
    if (arguments.length > 0 && !full) {
      System.err.println("usage: run engines [--full]");
      System.exit(2);
    }
    Path data = Path.of(System.getProperty("metalstreams.bench.data"));
    new Engines(data, full ? Effort.FULL : Effort.QUICK, System.out).compare();
  }

  private void compare() throws Exception {
    int cpus = Runtime.getRuntime().availableProcessors();
    double load = ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
    out.printf("%d CPUs, load %.1f%s%n", cpus, load, load > 0.5 * cpus ? ": BUSY" : "");
    out.printf(
        "here: %s%nagainst: %s, %s%n",
        OwnEngine.description(), OnnxEngine.description(), TorchEngine.description());
    out.printf(
        "%-11s %5s %7s %12s %12s %-22s %12s %-22s%n",
        "network",
        "batch",
        "threads",
        "here/s",
        "ONNX/s",
        "ratio (middle half)",
        "PyTorch/s",
        "ratio (middle half)");
    for (Network.Kind kind : Network.Kind.values()) {
      for (int threads : THREADS) {
        for (int batch : BATCHES) {
          compare(Network.read(kind, data), batch, threads);
        }
      }
    }
    out.printf(
        behind == 0
            ? "ahead everywhere%n"
            : "BEHIND in " + behind + " of " + 2 * 2 * THREADS.length * BATCHES.length + "%n");
  }

  private void compare(Network network, int batch, int threads) throws Exception {
    float[] images;
    float[] logits;
    try (Safetensors file = Safetensors.open(data.resolve("digits_test.safetensors"))) {
      images = Arrays.copyOf(file.tensor("x").floats(), batch * Network.INPUTS);
      logits =
          Arrays.copyOf(
              file.tensor(network.kind().label() + ".logits").floats(), batch * Network.OUTPUTS);
    }
    try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
      List<Way> opened = new ArrayList<>();
      try {
        Way own = open(opened, "", new OwnEngine(network, batch, threads), pool, threads);
        List<Way> onnx = new ArrayList<>();
        List<Way> torch = new ArrayList<>();
        for (boolean fused : ways(network)) {
          onnx.add(
              open(
                  opened,
                  fused ? "ONNX: own attention" : "",
                  new OnnxEngine(network, batch, fused),
                  pool,
                  threads));
          torch.add(
              open(
                  opened,
                  fused ? "PyTorch: fast path" : "",
                  new TorchEngine(network, batch, fused),
                  pool,
                  threads));
        }
        for (Way way : opened) {
          check(way, images, logits, pool);
        }
        for (Way way : opened) {
          rate(way, images, effort.warmUpMillis, pool);
        }
        measure(
            network,
            batch,
            own,
            faster(onnx, images, pool),
            faster(torch, images, pool),
            images,
            pool);
      } finally {
        for (Way way : opened) {
          way.sessions.forEach(Engine.Session::close);
          way.engine.close();
        }
      }
    }
  }

  private static boolean[] ways(Network network) {
    return network.kind() == Network.Kind.MLP ? new boolean[] {false} : new boolean[] {false, true};
  }

  /** With a session for each thread, made by that thread. */
  private static Way open(
      List<Way> opened, String name, Engine engine, ExecutorService pool, int threads)
      throws Exception {
    Way way = new Way(name, engine, new ArrayList<>());
    opened.add(way);
    for (int i = 0; i < threads; i++) {
      way.sessions.add(pool.submit(engine::session).get());
    }
    return way;
  }

  private static void check(Way way, float[] images, float[] logits, ExecutorService pool)
      throws Exception {
    for (Engine.Session session : way.sessions) {
      float[] results = new float[logits.length];
      pool.submit(
              () -> {
                session.run(images, results);
                return true;
              })
          .get();
      for (int i = 0; i < logits.length; i++) {
        if (!(Math.abs(results[i] - logits[i]) <= TOLERANCE)) {
          throw new IllegalStateException(
              "%s %s: result %d is %f, not %f"
                  .formatted(
                      way.engine.getClass().getSimpleName(), way.name, i, results[i], logits[i]));
        }
      }
    }
  }

  private Way faster(List<Way> ways, float[] images, ExecutorService pool) throws Exception {
    Way best = ways.getFirst();
    for (Way other : ways.subList(1, ways.size())) {
      Pairs pairs = new Pairs();
      for (int i = 0; i < 5; i++) {
        pairs.add(
            rate(best, images, effort.roundMillis, pool),
            rate(other, images, effort.roundMillis, pool));
      }
      best = pairs.ratio() >= 1 ? best : other;
    }
    return best;
  }

  private void measure(
      Network network,
      int batch,
      Way own,
      Way onnx,
      Way torch,
      float[] images,
      ExecutorService pool)
      throws Exception {
    Pairs withOnnx = new Pairs();
    Pairs withTorch = new Pairs();
    Way[] turns = {own, onnx, torch};
    for (int round = 0; round < effort.rounds; round++) {
      double[] rates = new double[turns.length];
      for (int i = 0; i < turns.length; i++) {
        int turn = (round + i) % turns.length;
        rates[turn] = rate(turns[turn], images, effort.roundMillis, pool);
      }
      withOnnx.add(rates[0], rates[1]);
      withTorch.add(rates[0], rates[2]);
    }
    out.printf(
        "%-11s %5d %7d %12.0f %12.0f %-22s %12.0f %-22s %s%n",
        network.kind().label(),
        batch,
        own.sessions.size(),
        withOnnx.java(),
        withOnnx.c(),
        ratio(withOnnx),
        withTorch.c(),
        ratio(withTorch),
        (onnx.name + "  " + torch.name).strip());
  }

  private String ratio(Pairs pairs) {
    behind += pairs.ratio() < 1 ? 1 : 0;
    return "%.2f (%s)%s"
        .formatted(pairs.ratio(), pairs.ratioRange(), pairs.ratio() < 1 ? " BEHIND" : "");
  }

  /** Calls per second of all threads together. */
  private static double rate(Way way, float[] images, int millis, ExecutorService pool)
      throws Exception {
    CyclicBarrier start = new CyclicBarrier(way.sessions.size());
    List<Callable<Double>> jobs = new ArrayList<>();
    for (Engine.Session session : way.sessions) {
      float[] results = new float[images.length / Network.INPUTS * Network.OUTPUTS];
      jobs.add(
          () -> {
            start.await();
            long began = System.nanoTime();
            long end = began + TimeUnit.MILLISECONDS.toNanos(millis);
            long calls = 0;
            long now = began;
            while (now - end < 0) {
              session.run(images, results);
              calls++;
              now = System.nanoTime();
            }
            return calls * 1e9 / (now - began);
          });
    }
    double all = 0;
    for (Future<Double> each : pool.invokeAll(jobs)) {
      all += each.get();
    }
    return all;
  }
}
