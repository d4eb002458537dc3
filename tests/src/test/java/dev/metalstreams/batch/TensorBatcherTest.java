package dev.metalstreams.batch;

import static dev.metalstreams.batch.Outcomes.failureOf;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.OutOfDeviceMemoryException;
import dev.metalstreams.Tensor;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Rows of many requests in one run. On the host shim: {@link BatchSoakTest}. */
@Timeout(60)
class TensorBatcherTest {
  private final Script script = Script.automatic();
  private final Device device = Device.builder().driver(script.provider()).graphCacheSize(0).open();

  /** y = (x0 + 2 x1 + 3 x2, x2 - x0). */
  private final Tensor weight = device.tensor(new float[] {1, 2, 3, -1, 0, 1}, 2, 3);

  @AfterEach
  void nothingIsLeft() {
    weight.close();
    device.synchronize();
    assertThat(device.memory().stats().allocated()).isZero();
    assertThat(script.executables()).as("executables that nobody has closed").isZero();
    device.close();
    assertThat(script.violations()).isEmpty();
  }

  private static Graph layer(int batch) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, batch, 3);
          g.output("y", g.linear(x, g.input("w", DType.F32, 2, 3)));
        });
  }

  /** Every row of the result shows every row of the batch. */
  private static Graph products(int batch) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, batch, 2);
          g.output("y", g.linear(x, x));
        });
  }

  /** So that only a full batch is served. */
  private static void whenFull(BatchQueue.Builder<?, ?> queue) {
    queue.maxDelay(Duration.ofHours(1));
  }

  private static <T> T get(CompletableFuture<T> future) throws Exception {
    return future.get(30, TimeUnit.SECONDS);
  }

  private TensorBatcher.Builder batcher() {
    return TensorBatcher.builder(device, TensorBatcherTest::layer).weights(weight);
  }

  private static float[] expected(float... x) {
    float[] y = new float[x.length / 3 * 2];
    for (int i = 0; i < x.length / 3; i++) {
      y[2 * i] = x[3 * i] + 2 * x[3 * i + 1] + 3 * x[3 * i + 2];
      y[2 * i + 1] = x[3 * i + 2] - x[3 * i];
    }
    return y;
  }

  @Test
  void rowsFromManyThreadsComeBackToTheirOwners() throws Exception {
    try (TensorBatcher batcher =
        batcher()
            .buckets(1, 4, 16)
            .queue(queue -> queue.maxDelay(Duration.ofMillis(1)).workers(2).pipeline(2))
            .build()) {
      List<Thread> threads = new ArrayList<>();
      List<CompletableFuture<float[]>> wrong = new ArrayList<>();
      for (int t = 0; t < 16; t++) {
        int seed = t;
        threads.add(
            Thread.ofVirtual()
                .start(
                    () -> {
                      for (int i = 0; i < 50; i++) {
                        float[] x = new float[3 * (1 + (seed + i) % 3)];
                        for (int j = 0; j < x.length; j++) {
                          x[j] = seed * 100 + i + j;
                        }
                        CompletableFuture<float[]> y = batcher.submit(x);
                        if (!java.util.Arrays.equals(y.join(), expected(x))) {
                          synchronized (wrong) {
                            wrong.add(y);
                          }
                        }
                      }
                    }));
      }
      for (Thread thread : threads) {
        thread.join();
      }
      assertThat(wrong).isEmpty();
      BatchStats stats = batcher.stats();
      assertThat(stats.succeeded()).isEqualTo(16 * 50);
      assertThat(stats.batches()).as("rows did share runs").isLessThan(16 * 50);
    }
  }

  /**
   * The last of nine would cost seven rows of nothing; the last two of ten are too many to wait.
   */
  @ParameterizedTest
  @CsvSource({"8, 1", "9, 2", "10, 1", "15, 1", "16, 1", "17, 2"})
  void aBatchThatJustExceedsABucketLeavesTheRestForTheNext(int requests, int batches)
      throws Exception {
    DeviceStream writer = device.streams().stream(3);
    try (TensorBatcher batcher = batcher().buckets(8, 16, 32).build();
        Tensor rows = device.empty(DType.F32, 1, 3)) {
      script.hold(writer.id());
      CompletableFuture<Tensor> first =
          device
              .streams()
              .callWith(
                  writer,
                  () -> {
                    writer.fill(rows.buffer(), (byte) 0);
                    writer.flush();
                    return batcher.submit(rows);
                  });
      while (batcher.stats().batches() == 0) {
        Thread.onSpinWait(); // until the worker waits for it
      }
      List<CompletableFuture<float[]>> others = new ArrayList<>();
      for (int i = 0; i < requests; i++) {
        others.add(batcher.submit(new float[] {i, 1, 2}));
      }
      script.release(writer.id());
      for (int i = 0; i < requests; i++) {
        assertThat(get(others.get(i))).containsExactly(expected(i, 1, 2));
      }
      get(first).close();
      assertThat(batcher.stats().batches()).isEqualTo(1 + batches);
    }
  }

  @Test
  void tensorsAreGatheredOnTheDeviceInOrderWithTheirWriters() throws Exception {
    DeviceStream writer = device.streams().stream(3);
    try (TensorBatcher batcher = batcher().buckets(8).build();
        Tensor source = device.tensor(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);
        Tensor rows = device.empty(DType.F32, 2, 3)) {
      CompletableFuture<Tensor> answer =
          device
              .streams()
              .callWith(
                  writer,
                  () -> {
                    // Still under way when the rows are submitted: the batcher's stream waits for
                    // it.
                    writer.copy(source.buffer(), 0, rows.buffer(), 0, 24);
                    return batcher.submit(rows);
                  });
      CompletableFuture<float[]> fromHost = batcher.submit(new float[] {7, 8, 9});
      try (Tensor y = answer.get(30, TimeUnit.SECONDS)) {
        assertThat(y.shape()).containsExactly(2, 2);
        assertThat(y.toFloats()).containsExactly(expected(1, 2, 3, 4, 5, 6));
      }
      assertThat(fromHost.get(30, TimeUnit.SECONDS)).containsExactly(expected(7, 8, 9));
    }
  }

  @Test
  void requestsOfBothKindsShareARunInTheirOrder() throws Exception {
    try (TensorBatcher batcher = batcher().buckets(8).queue(TensorBatcherTest::whenFull).build();
        Tensor two = device.tensor(new float[] {4, 5, 6, 7, 8, 9}, 2, 3);
        Tensor three = device.tensor(new float[] {1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3)) {
      CompletableFuture<float[]> first = batcher.submit(new float[] {1, 2, 3});
      CompletableFuture<Tensor> second = batcher.submit(two);
      CompletableFuture<float[]> third = batcher.submit(new float[] {3, 2, 1, 9, 8, 7});
      CompletableFuture<Tensor> fourth = batcher.submit(three);
      assertThat(get(first)).containsExactly(expected(1, 2, 3));
      try (Tensor y = get(second)) {
        assertThat(y.toFloats()).containsExactly(expected(4, 5, 6, 7, 8, 9));
      }
      assertThat(get(third)).containsExactly(expected(3, 2, 1, 9, 8, 7));
      try (Tensor y = get(fourth)) {
        assertThat(y.toFloats()).containsExactly(expected(1, 0, 0, 0, 1, 0, 0, 0, 1));
      }
      assertThat(batcher.stats().batches()).isEqualTo(1);
    }
  }

  @Test
  void aGraphMayHaveManyWeights() throws Exception {
    try (Tensor bias = device.tensor(new float[] {10, 20}, 2);
        Tensor factor = device.tensor(new float[] {2, -1}, 2);
        TensorBatcher batcher =
            TensorBatcher.builder(
                    device,
                    batch ->
                        Graph.build(
                            g -> {
                              Node x = g.input("x", DType.F32, batch, 3);
                              Node w = g.input("w", DType.F32, 2, 3);
                              Node b = g.input("b", DType.F32, 2);
                              Node f = g.input("f", DType.F32, 2);
                              g.output("y", g.multiply(g.linear(x, w, b), f));
                            }))
                .weights(weight, bias, factor)
                .build()) {
      assertThat(get(batcher.submit(new float[] {1, 2, 3}))).containsExactly(48, -22);
    }
  }

  @Test
  void rowsThatFillABatchUpAreZeroWhateverWasThereBefore() throws Exception {
    try (TensorBatcher batcher =
        TensorBatcher.builder(device, TensorBatcherTest::products).buckets(4).build()) {
      get(batcher.submit(new float[] {1, 1, 1, 1, 1, 1, 1, 1}));
      assertThat(get(batcher.submit(new float[] {1, 2, 3, 4})))
          .containsExactly(5, 11, 0, 0, 11, 25, 0, 0);
    }
  }

  /** The memory of a batch goes to the next one only when its results have been read. */
  @Test
  void aBatchKeepsItsMemoryUntilItsResultsAreRead() throws Exception {
    BlockingQueue<Runnable> conclusions = new LinkedBlockingQueue<>();
    try (TensorBatcher batcher =
        batcher()
            .buckets(1)
            .queue(queue -> queue.pipeline(2).completer(conclusions::add))
            .build()) {
      CompletableFuture<float[]> first = batcher.submit(new float[] {1, 2, 3});
      Runnable firstEnd = conclusions.take(); // done on the device, but not read yet
      CompletableFuture<float[]> second = batcher.submit(new float[] {4, 5, 6});
      Runnable secondEnd = conclusions.take();
      firstEnd.run();
      secondEnd.run();
      assertThat(first.join()).containsExactly(expected(1, 2, 3));
      assertThat(second.join()).containsExactly(expected(4, 5, 6));
    }
  }

  /** Its rows are zero for the others. */
  @Test
  void aClosedTensorFailsItsRequestAlone() throws Exception {
    try (TensorBatcher batcher =
        TensorBatcher.builder(device, TensorBatcherTest::products)
            .buckets(5)
            .queue(TensorBatcherTest::whenFull)
            .build()) {
      get(batcher.submit(new float[] {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
      Tensor rows = device.tensor(new float[] {5, 6, 7, 8}, 2, 2);
      CompletableFuture<float[]> good = batcher.submit(new float[] {1, 2});
      CompletableFuture<Tensor> bad = batcher.submit(rows);
      rows.close();
      CompletableFuture<float[]> alsoGood = batcher.submit(new float[] {3, 4});
      CompletableFuture<Tensor> last = batcher.submit(rowOfAClosedTensor());
      assertThat(get(good)).containsExactly(5, 0, 0, 11, 0);
      assertThat(get(alsoGood)).containsExactly(11, 0, 0, 25, 0);
      for (CompletableFuture<Tensor> each : List.of(bad, last)) {
        assertThat(failureOf(each))
            .isInstanceOf(IllegalStateException.class)
            .hasMessageContaining("closed");
      }
    }
  }

  private Tensor rowOfAClosedTensor() {
    try (Tensor row = device.tensor(new float[] {9, 9}, 1, 2)) {
      return row;
    }
  }

  @Test
  void aResultThatNobodyTakesIsClosed() throws Exception {
    BlockingQueue<Runnable> conclusions = new LinkedBlockingQueue<>();
    try (TensorBatcher batcher =
            batcher().buckets(2).queue(queue -> queue.completer(conclusions::add)).build();
        Tensor rows = device.tensor(new float[] {1, 2, 3}, 1, 3)) {
      CompletableFuture<Tensor> answer = batcher.submit(rows);
      Runnable end = conclusions.take();
      assertThat(answer.cancel(false)).isTrue();
      end.run();
    } // nothing is left
  }

  @Test
  void resultsThatComeAfterTheCloseLeaveNothing() throws Exception {
    BlockingQueue<Runnable> conclusions = new LinkedBlockingQueue<>();
    TensorBatcher batcher =
        batcher()
            .buckets(1)
            .queue(queue -> queue.completer(conclusions::add).closeTimeout(Duration.ofNanos(1)))
            .build();
    CompletableFuture<float[]> answer = batcher.submit(new float[] {1, 2, 3});
    Runnable end = conclusions.take();
    batcher.close(); // the worker waits for the end
    assertThat(failureOf(answer)).isInstanceOf(RejectedExecutionException.class);
    end.run();
  }

  // ---- what the driver refuses

  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void aBatchWhoseMemoryCannotBeSeenFailsAndGivesItBack(int view) throws Exception {
    try (TensorBatcher batcher = batcher().buckets(1).build()) {
      script.refuse("contents", view, Status.INTERNAL);
      assertThat(failureOf(batcher.submit(new float[] {1, 2, 3})))
          .hasMessageContaining("planned refusal of contents");
      assertThat(get(batcher.submit(new float[] {1, 2, 3}))).containsExactly(expected(1, 2, 3));
    }
  }

  @Test
  void aBatchWithoutMemoryForItsResultsFailsAndGivesTheRestBack() throws Exception {
    try (TensorBatcher batcher = batcher().buckets(1).build()) {
      long held = device.memory().stats().reserved();
      script.memoryLimit(held + 256); // for the rows alone
      assertThat(failureOf(batcher.submit(new float[] {1, 2, 3})))
          .isInstanceOf(OutOfDeviceMemoryException.class);
      script.memoryLimit(1 << 30);
      assertThat(get(batcher.submit(new float[] {1, 2, 3}))).containsExactly(expected(1, 2, 3));
    }
  }

  @Test
  void aBatchWhoseResultsCannotBeCopiedFailsAndGivesAllBack() throws Exception {
    try (TensorBatcher batcher = batcher().buckets(2).queue(TensorBatcherTest::whenFull).build();
        Tensor rows = device.tensor(new float[] {1, 2, 3}, 1, 3)) {
      script.refuse("encodeCopy", 4, Status.INTERNAL); // two for the rows, two for the results
      CompletableFuture<Tensor> first = batcher.submit(rows);
      CompletableFuture<Tensor> second = batcher.submit(rows);
      assertThat(failureOf(first)).hasMessageContaining("planned refusal of encodeCopy");
      assertThat(failureOf(second)).hasMessageContaining("planned refusal of encodeCopy");
    }
  }

  @Test
  void aBucketThatCannotBeCompiledLeavesNoOther() {
    script.refuse("compile", 2, Status.INTERNAL);
    assertThatThrownBy(() -> batcher().buckets(1, 2).build())
        .hasMessageContaining("planned refusal of compile");
    assertThat(script.executables()).isZero();
  }

  @Test
  void whatDoesNotFitIsRefused() {
    try (TensorBatcher batcher = batcher().buckets(2).build();
        Tensor wide = device.empty(DType.F32, 1, 4)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> batcher.submit(new float[4]))
          .withMessage("4 values are not one or more rows of 3");
      assertThatIllegalArgumentException().isThrownBy(() -> batcher.submit(new float[0]));
      assertThatIllegalArgumentException()
          .isThrownBy(() -> batcher.submit(new float[9]))
          .withMessage("3 rows; the largest bucket has 2");
      assertThatIllegalArgumentException().isThrownBy(() -> batcher.submit(wide));
      assertThat(batcher.stats().accepted()).isZero();
    }
    assertThatIllegalArgumentException().isThrownBy(() -> batcher().buckets());
    assertThatIllegalArgumentException().isThrownBy(() -> batcher().buckets(0));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> TensorBatcher.builder(device, TensorBatcherTest::layer).build())
        .withMessageContaining("inputs");
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> TensorBatcher.builder(device, n -> layer(1)).weights(weight).buckets(2).build())
        .withMessageContaining("batch size 2");
    try (Tensor transposed = device.empty(DType.F32, 3, 2);
        Tensor bias = device.empty(DType.F32, 2)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> batcher().weights(transposed).build())
          .withMessageContaining("does not fit weight 0");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> batcher().weights(weight, bias).build())
          .withMessageContaining("has not 1 + 2 inputs");
    }
  }

  /** Its rows are seen through one byte buffer. */
  @Test
  void aBucketIsNoLargerThanAByteBuffer() {
    long most = Integer.MAX_VALUE / 4;
    wide(most).close();
    for (long elements : new long[] {most + 1, 1L << 31, 1L << 33}) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> wide(elements))
          .withMessageContaining("too large");
    }
  }

  private TensorBatcher wide(long elements) {
    return TensorBatcher.builder(
            device,
            batch ->
                Graph.build(g -> g.output("y", g.relu(g.input("x", DType.F32, batch, elements)))))
        .buckets(1)
        .build();
  }

  @Test
  void itTellsItsBuckets() {
    try (TensorBatcher batcher = batcher().buckets(4, 1).build()) {
      assertThat(batcher).hasToString("tensor batcher of buckets [1, 4]");
    }
  }
}
