package dev.metalstreams.cli;

import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.NodeSpec;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.ServiceLoader;
import java.util.concurrent.Phaser;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/**
 * One round of {@code repro}, in a process of its own because it may not survive it. It uses the
 * driver straight, without the core, which is there to keep these things from happening. The last
 * line that it prints begins with {@link #MARK} and says how it went; a process that ends without
 * it has crashed.
 */
final class ReproChild {
  /** Before the outcome. */
  static final String MARK = "repro: ";

  /** All results are right. */
  static final String RIGHT = "right";

  /** A result is wrong. */
  static final String WRONG = "wrong";

  /** A command buffer failed, or the driver refused one. */
  static final String FAILED = "failed";

  /** It cannot be run here. */
  static final String UNSUPPORTED = "unsupported";

  private static final int SIZE = 64;
  private static final int BYTES = 1 << 12;
  private static final float EPSILON = 1e-3f;
  private static final double TOLERANCE = 1e-4;
  private static final int PER_COMMAND_BUFFER = 8;
  private static final int PER_SHARED_COMMAND_BUFFER = 2048;
  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(30);

  private final Driver driver;
  private final int threads;
  private final int iterations;

  /** Where all threads meet; who ends is not waited for any more. */
  private final Phaser together;

  /** The first thing that went wrong, as it is printed. */
  private final AtomicReference<String> outcome = new AtomicReference<>(RIGHT);

  private ReproChild(Driver driver, int threads, int iterations) {
    this.driver = driver;
    this.threads = threads;
    this.iterations = iterations;
    this.together = new Phaser(threads);
  }

  /**
   * Runs a round.
   *
   * @param args the defect, the path of the native library, threads, iterations
   */
  public static void main(String[] args) throws InterruptedException {
    Defect defect = Defect.of(args[0]);
    DriverOptions options = new DriverOptions("metal", args[1], 0, "auto", defect.flags());
    Driver driver;
    try {
      driver = ServiceLoader.load(DriverProvider.class).findFirst().orElseThrow().open(options);
    } catch (DriverException e) {
      System.out.println(MARK + UNSUPPORTED + " " + OneLine.of(e));
      return;
    }
    ReproChild round = new ReproChild(driver, Integer.parseInt(args[2]), Integer.parseInt(args[3]));
    round.run(defect);
    driver.close();
    System.out.println(MARK + round.outcome.get());
  }

  private void run(Defect defect) throws InterruptedException {
    switch (defect) {
      case NDARRAY_MATMUL -> products();
      case COMPUTE_KERNEL -> onThreads(this::normalise);
      case SHARED_COMMAND_BUFFER -> shared();
    }
  }

  private interface Work {
    void run(int thread);
  }

  private void onThreads(Work work) throws InterruptedException {
    List<Thread> running = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      int index = i;
      running.add(
          Thread.ofPlatform()
              .start(
                  () -> {
                    try {
                      work.run(index);
                    } catch (DriverException e) {
                      fault(FAILED + " " + OneLine.of(e));
                    } finally {
                      together.arriveAndDeregister();
                    }
                  }));
    }
    for (Thread each : running) {
      each.join();
    }
  }

  private void fault(String what) {
    outcome.compareAndSet(RIGHT, what);
  }

  private boolean wentWell() {
    return outcome.get().equals(RIGHT);
  }

  private void await(long queue, long value) {
    if (!driver.awaitValue(queue, value, PATIENCE_NANOS)) {
      fault(FAILED + " a command buffer was not completed in 30 s");
    } else if (driver.failedValue(queue) != 0) {
      fault(FAILED + " a command buffer failed");
    }
  }

  // ---- ndarray-matmul

  private void products() throws InterruptedException {
    List<Long> shape = List.of((long) SIZE, (long) SIZE);
    GraphSpec graph =
        new GraphSpec(
            List.of(
                new NodeSpec.Input(ElementType.F32, shape),
                new NodeSpec.Input(ElementType.F32, shape),
                new NodeSpec.MatMul(0, 1, false, false)),
            List.of(2));
    long product = driver.compile(graph);
    if (driver.path(product, Driver.ENCODE_SOLE) == MatmulPath.NDARRAY) {
      onThreads(thread -> multiply(thread, product));
    } else {
      fault(UNSUPPORTED + " MPSNDArray lies in a caller's memory from macOS 15 on");
    }
    driver.destroyExecutable(product);
  }

  private void multiply(int thread, long product) {
    long queue = driver.createQueue(thread + 1L, "repro " + thread, 4);
    long[] buffers = new long[3];
    Arguments arguments = driver.newArguments(3);
    for (int i = 0; i < 3; i++) {
      buffers[i] = driver.createBuffer(4L * SIZE * SIZE);
      arguments.set(i, buffers[i]);
    }
    for (int i = 0; i < SIZE * SIZE; i++) {
      floats(buffers[0]).put(i, (i * 7 + thread) % 5);
      floats(buffers[1]).put(i, (i * 3 + thread) % 7);
    }
    float[] expected = product(floats(buffers[0]), floats(buffers[1]));
    together.arriveAndAwaitAdvance();
    for (long value = 1; value <= iterations && wentWell(); value++) {
      driver.begin(queue, value);
      for (int i = 0; i < PER_COMMAND_BUFFER; i++) {
        // Said by every thread at once: this is what must not be.
        driver.encodeExecutable(queue, value, product, arguments, 3, Driver.ENCODE_SOLE);
      }
      driver.commit(queue, value, Driver.COMMIT_WAITING);
      await(queue, value);
      for (int i = 0; i < expected.length && wentWell(); i++) {
        float seen = floats(buffers[2]).get(i);
        if (seen != expected[i]) {
          fault(WRONG + " element " + i + " is " + seen + ", not " + expected[i]);
        }
      }
    }
    driver.destroyQueue(queue);
    for (long buffer : buffers) {
      driver.destroyBuffer(buffer);
    }
  }

  private FloatBuffer floats(long buffer) {
    return driver.contents(buffer, 0, 4 * SIZE * SIZE).asFloatBuffer();
  }

  /** Of small whole numbers: exact in any order. */
  private static float[] product(FloatBuffer a, FloatBuffer b) {
    float[] y = new float[SIZE * SIZE];
    for (int i = 0; i < SIZE; i++) {
      for (int k = 0; k < SIZE; k++) {
        for (int j = 0; j < SIZE; j++) {
          y[i * SIZE + j] += a.get(i * SIZE + k) * b.get(k * SIZE + j);
        }
      }
    }
    return y;
  }

  // ---- compute-kernel

  private void normalise(int thread) {
    long queue = driver.createQueue(thread + 1L, "repro " + thread, 4);
    long x = driver.createBuffer(4L * SIZE * SIZE);
    long y = driver.createBuffer(4L * SIZE * SIZE);
    long gamma = driver.createBuffer(4L * SIZE);
    long beta = driver.createBuffer(4L * SIZE);
    FloatBuffer scale = driver.contents(gamma, 0, 4 * SIZE).asFloatBuffer();
    FloatBuffer shift = driver.contents(beta, 0, 4 * SIZE).asFloatBuffer();
    for (int i = 0; i < SIZE; i++) {
      scale.put(i, 2);
      shift.put(i, 1);
    }
    together.arriveAndAwaitAdvance();
    for (long value = 1; value <= iterations && wentWell(); value++) {
      for (int i = 0; i < SIZE * SIZE; i++) {
        floats(x).put(i, (float) ((i * 7 + thread + value) % 13));
      }
      driver.begin(queue, value);
      for (int i = 0; i < PER_COMMAND_BUFFER; i++) {
        driver.encodeLayerNorm(queue, value, x, gamma, beta, y, SIZE, SIZE, EPSILON);
      }
      driver.commit(queue, value, Driver.COMMIT_WAITING);
      await(queue, value);
      compareNormalised(floats(x), floats(y));
    }
    driver.destroyQueue(queue);
    for (long buffer : new long[] {x, y, gamma, beta}) {
      driver.destroyBuffer(buffer);
    }
  }

  private void compareNormalised(FloatBuffer x, FloatBuffer y) {
    for (int row = 0; row < SIZE && wentWell(); row++) {
      double mean = 0;
      double variance = 0;
      for (int i = 0; i < SIZE; i++) {
        mean += x.get(row * SIZE + i) / (double) SIZE;
      }
      for (int i = 0; i < SIZE; i++) {
        double difference = x.get(row * SIZE + i) - mean;
        variance += difference * difference / SIZE;
      }
      for (int i = 0; i < SIZE; i++) {
        double difference = x.get(row * SIZE + i) - mean;
        double expected = difference / Math.sqrt(variance + EPSILON) * 2 + 1;
        float seen = y.get(row * SIZE + i);
        if (!(Math.abs(seen - expected) < TOLERANCE)) {
          fault(WRONG + " element " + i + " of row " + row + " is " + seen + ", not " + expected);
        }
      }
    }
  }

  // ---- shared-command-buffer

  private void fillBytes(long buffer, int seed) {
    ByteBuffer view = driver.contents(buffer, 0, BYTES);
    for (int i = 0; i < BYTES; i++) {
      view.put(i, (byte) (i * 31 + seed));
    }
  }

  private void compare(long source, long target) {
    int at = driver.contents(source, 0, BYTES).mismatch(driver.contents(target, 0, BYTES));
    if (at >= 0 && wentWell()) {
      fault(WRONG + " byte " + at + " was not copied");
    }
  }

  private void shared() throws InterruptedException {
    long queue = driver.createQueue(1, "repro", 4);
    onThreads(thread -> copyIntoShared(thread, queue));
    // Whatever is open or uncompleted goes with the device.
  }

  private void copyIntoShared(int thread, long queue) {
    long source = driver.createBuffer(BYTES);
    long target = driver.createBuffer(BYTES);
    for (long value = 1; value <= iterations && wentWell(); value++) {
      fillBytes(source, (int) value + thread);
      if (thread == 0) {
        driver.begin(queue, value);
      }
      together.arriveAndAwaitAdvance();
      for (int i = 0; i < PER_SHARED_COMMAND_BUFFER; i++) {
        // The interface asks for one thread at a time: this is what must not be.
        driver.encodeCopy(queue, value, source, 0, target, 0, BYTES);
      }
      together.arriveAndAwaitAdvance();
      if (thread == 0) {
        driver.commit(queue, value, Driver.COMMIT_WAITING);
        await(queue, value);
      }
      together.arriveAndAwaitAdvance();
      compare(source, target);
      together.arriveAndAwaitAdvance(); // so that all go on, or none
    }
  }
}
