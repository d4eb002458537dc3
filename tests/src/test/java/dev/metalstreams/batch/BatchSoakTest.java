package dev.metalstreams.batch;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.Graph;
import dev.metalstreams.Tensor;
import dev.metalstreams.bindings.abi.mst_test_h;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.LongAdder;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * 64 submitters on a device whose command buffers fail now and then, with random cancellation and
 * deadlines and a close in the middle: every future ends exactly once, no result is wrong, and
 * nothing is left.
 *
 * <p>{@code -Dmetalstreams.soak.requests=10000} is the whole of it; less is for every build.
 */
@Timeout(300)
class BatchSoakTest {
  private static final int SUBMITTERS = 64;
  private static final int REQUESTS = Integer.getInteger("metalstreams.soak.requests", 1_000);

  private final LongAdder accepted = new LongAdder();
  private final LongAdder rejected = new LongAdder();
  private final LongAdder wrong = new LongAdder();
  private final AtomicIntegerArray endings = new AtomicIntegerArray(SUBMITTERS * REQUESTS);
  private final CountDownLatch half = new CountDownLatch(SUBMITTERS * REQUESTS / 2);

  /** y = 2x - 1 for each of three elements. */
  private static Graph affine(int batch) {
    return Graph.build(
        g -> {
          var x = g.input("x", DType.F32, batch, 3);
          var two = g.constant(new float[] {2, 2, 2}, 3);
          g.output("y", g.subtract(g.multiply(x, two), g.input("b", DType.F32, 3)));
        });
  }

  /** One command buffer that comes soon fails on the device. */
  private static void failOne(int soon) {
    try (Arena arena = Arena.ofConfined()) {
      int status =
          mst_test_h.mst_test_fail(
              arena.allocateFrom("execute"), soon, soon == 0 ? 0 : Status.EXECUTION.code());
      assertThat(status).isZero();
    }
  }

  private void submitAll(TensorBatcher batcher, int submitter, List<CompletableFuture<?>> futures) {
    Random random = new Random(submitter);
    for (int i = 0; i < REQUESTS; i++) {
      int number = submitter * REQUESTS + i;
      float[] x = {number % 1000, i % 100, submitter};
      try {
        CompletableFuture<float[]> future =
            random.nextInt(4) == 0
                ? batcher.submit(x, Duration.ofNanos(random.nextInt(20_000_000)))
                : batcher.submit(x);
        accepted.increment();
        futures.add(
            future.whenComplete(
                (y, failure) -> {
                  endings.incrementAndGet(number);
                  if (y != null
                      && !Arrays.equals(
                          y, new float[] {2 * x[0] - 1, 2 * x[1] - 1, 2 * x[2] - 1})) {
                    wrong.increment();
                  }
                }));
        if (random.nextInt(8) == 0) {
          future.cancel(true);
        }
      } catch (RejectedExecutionException e) {
        rejected.increment(); // closed, or full until its deadline: its submitter knows
      }
      if (submitter == 0 && i % 50 == 0) {
        failOne(1 + random.nextInt(4));
      }
      half.countDown();
    }
  }

  @Test
  void everyRequestEndsExactlyOnceAndNothingIsLeft() throws Exception {
    List<List<CompletableFuture<?>>> futures = new ArrayList<>();
    BatchStats stats;
    try (Device device = Device.builder().backend("host").workers(2).open()) {
      Tensor one = device.tensor(new float[] {1, 1, 1}, 3);
      TensorBatcher batcher =
          TensorBatcher.builder(device, BatchSoakTest::affine)
              .weights(one)
              .buckets(1, 8, 64)
              .queue(
                  queue ->
                      queue
                          .capacity(2048)
                          .overload(Overload.BLOCK)
                          .maxDelay(Duration.ofNanos(200_000))
                          .workers(2)
                          .pipeline(2)
                          .name("soak"))
              .build();
      List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < SUBMITTERS; t++) {
        int submitter = t;
        List<CompletableFuture<?>> mine = new ArrayList<>();
        futures.add(mine);
        threads.add(
            (t % 2 == 0 ? Thread.ofPlatform() : Thread.ofVirtual())
                .name("submitter-" + t)
                .start(() -> submitAll(batcher, submitter, mine)));
      }
      half.await();
      batcher.close();
      for (Thread thread : threads) {
        thread.join();
      }
      failOne(0);
      for (List<CompletableFuture<?>> mine : futures) {
        for (CompletableFuture<?> future : mine) {
          try {
            future.get(30, TimeUnit.SECONDS);
          } catch (ExecutionException | CancellationException e) {
            // An outcome like any other.
          }
        }
      }
      stats = batcher.stats();
      one.close();
      assertThat(device.memory().stats().allocated()).isZero();
    }
    System.out.printf(
        "soak: %d submitters x %d requests: accepted %d, rejected %d; succeeded %d, failed %d,"
            + " cancelled %d, expired %d, abandoned %d%n",
        SUBMITTERS,
        REQUESTS,
        stats.accepted(),
        stats.rejected(),
        stats.succeeded(),
        stats.failed(),
        stats.cancelled(),
        stats.expired(),
        stats.abandoned());
    assertThat(wrong.sum()).as("wrong results").isZero();
    assertThat(stats.accepted()).isEqualTo(accepted.sum());
    assertThat(stats.rejected()).isEqualTo(rejected.sum());
    assertThat(stats.accepted() + stats.rejected()).isEqualTo((long) SUBMITTERS * REQUESTS);
    assertThat(stats.ended()).isEqualTo(stats.accepted());
    long once = 0;
    for (int i = 0; i < endings.length(); i++) {
      assertThat(endings.get(i)).isLessThanOrEqualTo(1);
      once += endings.get(i);
    }
    assertThat(once).as("each future once").isEqualTo(stats.accepted());
    assertThat(List.of(stats.succeeded(), stats.failed(), stats.cancelled(), stats.expired()))
        .as("all kinds of outcome came up")
        .allMatch(count -> count > 0);
    assertThat(Thread.getAllStackTraces().keySet())
        .noneMatch(thread -> thread.getName().startsWith("soak"));
  }
}
