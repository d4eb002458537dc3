package dev.metalstreams.batch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Rows of many requests in one run, on the host shim. */
@Timeout(60)
class TensorBatcherTest {
  private Device device;
  private Tensor weight;

  @BeforeEach
  void open() {
    device = Device.builder().backend("host").open();
    weight = device.tensor(new float[] {1, 2, 3, -1, 0, 1}, 2, 3); // y = (x0+2x1+3x2, x2-x0)
  }

  @AfterEach
  void nothingIsLeft() {
    weight.close();
    device.synchronize();
    assertThat(device.memory().stats().allocated()).isZero();
    device.close();
  }

  private static Graph layer(int batch) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, batch, 3);
          g.output("y", g.linear(x, g.input("w", DType.F32, 2, 3)));
        });
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

  @Test
  void aClosedTensorFailsItsRequestAlone() throws Exception {
    try (TensorBatcher batcher = batcher().buckets(4).build()) {
      Tensor rows = device.tensor(new float[] {1, 2, 3}, 1, 3);
      rows.close();
      CompletableFuture<Tensor> bad = batcher.submit(rows);
      CompletableFuture<float[]> good = batcher.submit(new float[] {1, 2, 3});
      assertThat(good.get(30, TimeUnit.SECONDS)).containsExactly(expected(1, 2, 3));
      try {
        bad.get(30, TimeUnit.SECONDS).close();
        throw new AssertionError("it succeeded");
      } catch (ExecutionException e) {
        assertThat(e.getCause())
            .isInstanceOf(IllegalStateException.class)
            .hasMessageContaining("closed");
      }
    }
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
  }
}
