package dev.metalstreams.batch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.StreamFailedException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Batches that fail on the device, or never come back from it, on the scripted driver. */
@Timeout(60)
class BatchFailureTest {
  private final Script script = Script.manual();
  private final Device device = Device.builder().driver(script.provider()).open();

  @AfterEach
  void nothingIsLeft() {
    script.letRun();
    device.synchronize();
    assertThat(device.memory().stats().allocated()).isZero();
    device.close();
    assertThat(script.violations()).isEmpty();
  }

  private TensorBatcher batcher(int depth) {
    return TensorBatcher.builder(device, BatchFailureTest::negative)
        .buckets(1)
        .queue(queue -> queue.pipeline(depth))
        .build();
  }

  private static Graph negative(int batch) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, batch, 1);
          g.output("y", g.subtract(g.subtract(x, x), x));
        });
  }

  /** The one queue on which work was committed. */
  private long worker() throws InterruptedException {
    while (true) {
      for (long queue : script.queues()) {
        if (script.committed(queue) > 0) {
          return queue;
        }
      }
      Thread.onSpinWait();
    }
  }

  /** Two requests that are on the device together, one batch behind the other. */
  private record Pair(CompletableFuture<float[]> first, CompletableFuture<float[]> second) {}

  private Pair launchTwo(TensorBatcher batcher) throws InterruptedException {
    Halt halt = script.halt("encodeExecutable");
    CompletableFuture<float[]> first = batcher.submit(new float[] {1});
    halt.awaitReached();
    CompletableFuture<float[]> second = batcher.submit(new float[] {2});
    halt.end();
    script.awaitCommitted(worker(), 1);
    while (!script.open(worker())) { // the first goes before the second is put behind it
      Thread.onSpinWait();
    }
    return new Pair(first, second);
  }

  /** They share the stream, so what comes behind a failure never ran; what comes after it does. */
  @Test
  void aBatchThatFailsTakesThoseBehindItAlongAndNoOther() throws Exception {
    try (TensorBatcher batcher = batcher(2)) {
      Pair pair = launchTwo(batcher);
      long queue = worker();
      script.fail(queue, Status.EXECUTION, "the GPU hung up");
      script.run(queue);
      assertThatThrownBy(() -> pair.first.get(30, TimeUnit.SECONDS))
          .hasCauseInstanceOf(StreamFailedException.class)
          .hasMessageContaining("the GPU hung up");
      script.letRun();
      assertThatThrownBy(() -> pair.second.get(30, TimeUnit.SECONDS))
          .hasCauseInstanceOf(StreamFailedException.class);
      assertThat(batcher.submit(new float[] {3}).get(30, TimeUnit.SECONDS)).containsExactly(-3);
      assertThat(batcher.stats().failed()).isEqualTo(2);
      assertThat(batcher.stats().succeeded()).isEqualTo(1);
    }
  }

  @Test
  void aBatchIsSubmittedBeforeTheNextIsPutBehindIt() throws Exception {
    List<Boolean> submitted = new CopyOnWriteArrayList<>();
    CountDownLatch first = new CountDownLatch(1);
    CountDownLatch second = new CountDownLatch(1);
    try (TensorBatcher batcher = batcher(2)) {
      script.intercept(
          "encodeExecutable",
          () -> {
            submitted.add(script.queues().stream().anyMatch(queue -> script.committed(queue) > 0));
            first.countDown();
            try {
              second.await();
            } catch (InterruptedException e) {
              throw new AssertionError(e);
            }
          });
      CompletableFuture<float[]> one = batcher.submit(new float[] {1});
      first.await();
      CompletableFuture<float[]> two = batcher.submit(new float[] {2});
      second.countDown();
      script.awaitCommitted(worker(), 2);
      assertThat(submitted).containsExactly(false, true);
      script.letRun();
      assertThat(one.get(30, TimeUnit.SECONDS)).containsExactly(-1);
      assertThat(two.get(30, TimeUnit.SECONDS)).containsExactly(-2);
    }
  }

  @Test
  void aBatchThatCannotBePutOnTheDeviceFailsAlone() throws Exception {
    script.letRun();
    try (TensorBatcher batcher = batcher(2)) {
      script.refuse("encodeExecutable", 1, Status.INTERNAL);
      assertThatThrownBy(() -> batcher.submit(new float[] {1}).get(30, TimeUnit.SECONDS))
          .hasMessageContaining("planned refusal");
      assertThat(batcher.submit(new float[] {2}).get(30, TimeUnit.SECONDS)).containsExactly(-2);
    }
  }

  @Test
  void aCloseGivesUpOnWhatNeverComesBack() throws Exception {
    TensorBatcher batcher =
        TensorBatcher.builder(device, BatchFailureTest::negative)
            .buckets(1)
            .queue(queue -> queue.pipeline(2).closeTimeout(Duration.ofMillis(1)))
            .build();
    Pair pair = launchTwo(batcher);
    batcher.close();
    assertThatThrownBy(() -> pair.first.get(30, TimeUnit.SECONDS))
        .hasCauseInstanceOf(RejectedExecutionException.class);
    assertThatThrownBy(() -> pair.second.get(30, TimeUnit.SECONDS))
        .hasCauseInstanceOf(RejectedExecutionException.class);
    assertThat(batcher.stats().abandoned()).isEqualTo(2);
  }
}
