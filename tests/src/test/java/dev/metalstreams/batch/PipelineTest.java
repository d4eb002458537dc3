package dev.metalstreams.batch;

import static dev.metalstreams.batch.Outcomes.failureOf;
import static dev.metalstreams.batch.Outcomes.get;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceEvent;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.StreamFailedException;
import dev.metalstreams.WaitInterruptedException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Batches of a function in two steps: what is launched, submitted, waited for and given back when.
 */
@Timeout(60)
class PipelineTest {
  private final Script script = Script.automatic();
  private final Device device = Device.builder().driver(script.provider()).open();
  private final LinkedBlockingQueue<String> steps = new LinkedBlockingQueue<>();

  /** The first launch ends when this is open, so that a test can submit more meanwhile. */
  private final CountDownLatch start = new CountDownLatch(1);

  private final CountDownLatch launched = new CountDownLatch(1);

  @AfterEach
  void close() {
    device.close();
    assertThat(script.violations()).isEmpty();
  }

  /** Requests are numbers; a result is the number. Notes every step. */
  private class Steps implements Launcher<Integer, Integer> {
    @Override
    public Flight<Integer> launch(Batch<Integer> batch) throws Exception {
      int first = batch.inputs().get(0);
      steps.add("launch " + first);
      launched.countDown();
      if (start.getCount() > 0) { // an interrupt is for the wait
        start.await();
      }
      return flight(batch.inputs());
    }

    Flight<Integer> flight(List<Integer> inputs) {
      return new Steps.Noted(inputs);
    }

    class Noted implements Flight<Integer> {
      final List<Integer> inputs;

      Noted(List<Integer> inputs) {
        this.inputs = inputs;
      }

      void note(String step) {
        steps.add(step + " " + inputs.get(0));
      }

      @Override
      public void flush() {
        note("flush");
      }

      @Override
      public void await() {
        note("await");
      }

      @Override
      public List<@Nullable Integer> results() {
        note("results");
        return new ArrayList<>(inputs);
      }

      @Override
      public void abandon() {
        note("abandon");
      }
    }
  }

  private BatchQueue<Integer, Integer> queue(
      Launcher<Integer, Integer> function,
      UnaryOperator<BatchQueue.Builder<Integer, Integer>> with) {
    return with.apply(BatchQueue.builder(function).device(device).maxBatch(1)).build();
  }

  @Test
  void theNextBatchIsPutBehindTheOneThatIsUnderWay() throws Exception {
    try (BatchQueue<Integer, Integer> queue =
        queue(new Steps(), builder -> builder.pipeline(2).completer(Runnable::run))) {
      List<CompletableFuture<Integer>> futures = new ArrayList<>();
      futures.add(queue.submit(0));
      launched.await();
      futures.add(queue.submit(1));
      futures.add(queue.submit(2));
      start.countDown();
      for (int i = 0; i < 3; i++) {
        assertThat(get(futures.get(i))).isEqualTo(i);
      }
    }
    assertThat(steps)
        .as("the last has no batch behind it: its wait submits it")
        .containsExactly(
            "launch 0",
            "flush 0",
            "launch 1",
            "await 0",
            "results 0",
            "flush 1",
            "launch 2",
            "await 1",
            "results 1",
            "await 2",
            "results 2");
  }

  @Test
  void noMoreAreUnderWayThanAllowed() throws Exception {
    try (BatchQueue<Integer, Integer> queue =
        queue(new Steps(), builder -> builder.completer(Runnable::run))) {
      CompletableFuture<Integer> first = queue.submit(0);
      launched.await();
      CompletableFuture<Integer> second = queue.submit(1);
      start.countDown();
      assertThat(get(first) + get(second)).isEqualTo(1);
    }
    assertThat(steps)
        .containsExactly("launch 0", "await 0", "results 0", "launch 1", "await 1", "results 1");
  }

  @Test
  void resultsAreReadAtMostSoManyBatchesLater() throws Exception {
    LinkedBlockingQueue<Runnable> conclusions = new LinkedBlockingQueue<>();
    start.countDown();
    try (BatchQueue<Integer, Integer> queue =
        queue(new Steps(), builder -> builder.completer(conclusions::add))) {
      CompletableFuture<Integer> first = queue.submit(0);
      CompletableFuture<Integer> second = queue.submit(1);
      Runnable end = conclusions.take();
      while (!steps.contains("await 1")) {
        Thread.onSpinWait();
      }
      assertThat(conclusions).as("the first has not been concluded").isEmpty();
      end.run();
      conclusions.take().run();
      assertThat(get(first) + get(second)).isEqualTo(1);
    }
  }

  @Test
  void aLaunchThatFailsFailsItsBatchAlone() throws Exception {
    start.countDown();
    Steps function =
        new Steps() {
          @Override
          public Flight<Integer> launch(Batch<Integer> batch) throws Exception {
            if (batch.inputs().get(0) == 1) {
              throw new IllegalStateException("planted");
            }
            return super.launch(batch);
          }
        };
    try (BatchQueue<Integer, Integer> queue = queue(function, builder -> builder)) {
      assertThat(failureOf(queue.submit(1))).hasMessage("planted");
      assertThat(get(queue.submit(2))).isEqualTo(2);
      assertThat(failureOf(queue.submit(1))).hasMessage("planted");
      assertThat(get(queue.submit(3))).isEqualTo(3);
      assertThat(queue.stats().failed()).isEqualTo(2);
      assertThat(queue.stats().serveP50()).as("what fails is measured, too").isPositive();
    }
  }

  @Test
  void whatFailsOnTheDeviceIsGivenBack() throws Exception {
    start.countDown();
    Steps function =
        new Steps() {
          @Override
          Flight<Integer> flight(List<Integer> inputs) {
            return new Noted(inputs) {
              @Override
              public void await() {
                if (inputs.get(0) == 1) {
                  throw new IllegalStateException("planted");
                }
                super.await();
              }
            };
          }
        };
    try (BatchQueue<Integer, Integer> queue = queue(function, builder -> builder)) {
      assertThat(failureOf(queue.submit(1))).hasMessage("planted");
      assertThat(get(queue.submit(2))).isEqualTo(2);
    }
    assertThat(steps).containsExactly("launch 1", "abandon 1", "launch 2", "await 2", "results 2");
  }

  @Test
  void resultsThatCannotBeReadFailTheirBatch() throws Exception {
    start.countDown();
    Steps function =
        new Steps() {
          @Override
          Flight<Integer> flight(List<Integer> inputs) {
            return new Noted(inputs) {
              @Override
              public List<@Nullable Integer> results() {
                if (inputs.get(0) == 1) {
                  throw new IllegalStateException("planted");
                }
                return super.results();
              }
            };
          }
        };
    try (BatchQueue<Integer, Integer> queue = queue(function, builder -> builder)) {
      assertThat(failureOf(queue.submit(1))).hasMessage("planted");
      assertThat(get(queue.submit(2))).isEqualTo(2);
    }
  }

  /** One that encodes a fill on the current stream, and waits for the stream. */
  private final class Fills extends Steps {
    @Override
    Flight<Integer> flight(List<Integer> inputs) {
      DeviceStream stream = device.streams().current();
      try (DeviceBuffer buffer = device.allocate(8)) {
        stream.fill(buffer, (byte) 1);
      }
      return new Noted(inputs) {
        @Override
        public void flush() {
          super.flush();
          stream.flush();
        }

        @Override
        public void await() {
          super.await();
          stream.synchronize();
        }
      };
    }
  }

  @Test
  void aStreamThatFailedIsResetForTheNextBatch() throws Exception {
    try (BatchQueue<Integer, Integer> queue =
        queue(new Fills(), builder -> builder.pipeline(2).completer(Runnable::run))) {
      CompletableFuture<Integer> first = queue.submit(0);
      launched.await();
      long stream = script.queues().get(script.queues().size() - 1);
      script.fail(stream, Status.EXECUTION, "page fault");
      CompletableFuture<Integer> second = queue.submit(1);
      start.countDown();
      assertThat(failureOf(first))
          .isInstanceOf(StreamFailedException.class)
          .hasMessageContaining("page fault");
      try {
        get(second); // it may have been behind the first, or after the reset
      } catch (ExecutionException e) {
        assertThat(e.getCause()).isInstanceOf(StreamFailedException.class);
      }
      assertThat(get(queue.submit(2))).isEqualTo(2);
    }
    assertThat(steps).contains("abandon 0", "results 2").doesNotContain("results 0");
  }

  /** To submit a batch early is not needed: its wait does so, too. */
  @Test
  void aFlushThatIsRefusedFailsNobody() throws Exception {
    try (BatchQueue<Integer, Integer> queue = queue(new Fills(), builder -> builder.pipeline(2))) {
      CompletableFuture<Integer> first = queue.submit(0);
      launched.await();
      CompletableFuture<Integer> second = queue.submit(1);
      script.refuse("commit", 1, Status.OUT_OF_MEMORY);
      start.countDown();
      assertThat(get(first)).isZero();
      assertThat(get(second)).isEqualTo(1);
      assertThat(get(queue.submit(2))).isEqualTo(2);
    }
    assertThat(steps).containsSubsequence("flush 0", "launch 1", "results 0");
  }

  @Test
  void aBatchThatIsCancelledAsAWholeIsNotLaunched() throws Exception {
    try (BatchQueue<Integer, Integer> queue =
        queue(new Steps(), builder -> builder.completer(Runnable::run))) {
      CompletableFuture<Integer> first = queue.submit(0);
      launched.await();
      CompletableFuture<Integer> second = queue.submit(1);
      assertThat(second.cancel(true)).isTrue();
      start.countDown();
      assertThat(get(first)).isZero();
      assertThat(get(queue.submit(2))).isEqualTo(2);
    }
    assertThat(steps).doesNotContain("launch 1");
  }

  /**
   * Waits, but for batch 0, for work of stream 0, which the device does not do before it is
   * released.
   */
  private final class Held extends Steps {
    final LinkedBlockingQueue<Thread> waiting = new LinkedBlockingQueue<>();
    private final DeviceEvent end;

    Held() {
      DeviceStream stream = device.streams().stream(0);
      script.hold(stream.id());
      try (DeviceBuffer buffer = device.allocate(8)) {
        stream.fill(buffer, (byte) 1);
      }
      end = stream.record();
    }

    @Override
    Flight<Integer> flight(List<Integer> inputs) {
      return new Noted(inputs) {
        @Override
        public void await() {
          if (inputs.get(0) != 0) {
            waiting.add(Thread.currentThread());
            end.await();
          }
          super.await();
        }
      };
    }
  }

  @Test
  void aCloseThatRunsOutOfTimeGivesBackWhatIsUnderWay() throws Exception {
    start.countDown();
    Held function = new Held();
    BatchQueue<Integer, Integer> queue =
        queue(function, builder -> builder.completer(Runnable::run));
    CompletableFuture<Integer> request = queue.submit(1);
    Thread worker = function.waiting.take();
    queue.close(Duration.ZERO);
    worker.join();
    script.release(device.streams().stream(0).id());
    assertThat(failureOf(request)).isInstanceOf(RejectedExecutionException.class);
    assertThat(steps).containsExactly("launch 1", "abandon 1");
    assertThat(queue.stats().abandoned()).isEqualTo(1);
    assertThatExceptionOfType(RejectedExecutionException.class).isThrownBy(() -> queue.submit(2));
  }

  /** Its interrupt is taken by the wait for a batch, and must do for that for a slot as well. */
  @Test
  void aCloseThatRunsOutOfTimeEndsTheWorkerThoughFuturesAreNotCompleted() throws Exception {
    start.countDown();
    Held function = new Held();
    LinkedBlockingQueue<Runnable> conclusions = new LinkedBlockingQueue<>();
    BatchQueue<Integer, Integer> queue =
        queue(function, builder -> builder.completer(conclusions::add));
    CompletableFuture<Integer> first = queue.submit(0);
    CompletableFuture<Integer> second = queue.submit(1);
    Thread worker = function.waiting.take();
    queue.close(Duration.ZERO);
    assertThat(worker.join(Duration.ofSeconds(30))).as("the worker ends").isTrue();
    script.release(device.streams().stream(0).id());
    assertThat(failureOf(first)).isInstanceOf(RejectedExecutionException.class);
    assertThat(failureOf(second)).isInstanceOf(RejectedExecutionException.class);
    conclusions.forEach(Runnable::run);
    assertThat(steps).contains("results 0", "abandon 1");
    assertThat(queue.stats().abandoned()).isEqualTo(2);
  }

  @Test
  void anInterruptWithoutACloseMeansNothing() throws Exception {
    start.countDown();
    Held function = new Held();
    try (BatchQueue<Integer, Integer> queue = queue(function, builder -> builder)) {
      CompletableFuture<Integer> request = queue.submit(1);
      function.waiting.take().interrupt();
      function.waiting.take(); // it waits again
      script.release(device.streams().stream(0).id());
      assertThat(get(request)).isEqualTo(1);
    }
  }

  @Test
  void withoutADeviceBothStepsAreOne() throws Exception {
    start.countDown();
    try (BatchQueue<Integer, Integer> queue = BatchQueue.builder(new Steps()).maxBatch(1).build()) {
      assertThat(get(queue.submit(1))).isEqualTo(1);
    }
    assertThat(steps).containsExactly("launch 1", "await 1", "results 1");
    steps.clear();
    Held held = new Held();
    Thread.currentThread().interrupt();
    assertThatExceptionOfType(WaitInterruptedException.class)
        .isThrownBy(() -> held.apply(new Batch<>(List.of(2))));
    assertThat(Thread.interrupted()).isTrue();
    assertThat(steps).containsExactly("launch 2", "abandon 2");
    script.release(device.streams().stream(0).id());
  }
}
