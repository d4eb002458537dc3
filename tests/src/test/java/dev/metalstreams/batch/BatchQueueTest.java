package dev.metalstreams.batch;

import static dev.metalstreams.batch.Outcomes.failureOf;
import static dev.metalstreams.batch.Outcomes.get;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatNullPointerException;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceClosedException;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.MetalStreamsException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * What the batch queue promises: real batches, exactly one outcome for each request, and nothing
 * left behind.
 */
@Timeout(60)
class BatchQueueTest {

  /** Serves nothing until it is opened; then doubles. */
  private static final class Gate {
    final CountDownLatch reached = new CountDownLatch(1);
    final CountDownLatch open = new CountDownLatch(1);
    final ConcurrentLinkedQueue<List<Integer>> batches = new ConcurrentLinkedQueue<>();

    List<Integer> serve(List<Integer> inputs) {
      batches.add(inputs);
      reached.countDown();
      try {
        open.await();
      } catch (InterruptedException e) {
        throw new CompletionException(e);
      }
      return inputs.stream().map(each -> 2 * each).toList();
    }

    BatchQueue.Builder<Integer, Integer> queue() {
      return BatchQueue.builder(BatchFunction.of(this::serve));
    }
  }

  @Test
  void whatGathersWhileAWorkerIsBusyIsOneBatch() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(8).build()) {
      CompletableFuture<Integer> first = queue.submit(0);
      gate.reached.await();
      List<CompletableFuture<Integer>> others = new ArrayList<>();
      for (int i = 1; i <= 10; i++) {
        others.add(queue.submit(i));
      }
      gate.open.countDown();
      assertThat(get(first)).isZero();
      for (int i = 1; i <= 10; i++) {
        assertThat(get(others.get(i - 1))).isEqualTo(2 * i);
      }
      assertThat(gate.batches)
          .containsExactly(List.of(0), List.of(1, 2, 3, 4, 5, 6, 7, 8), List.of(9, 10));
      BatchStats stats = queue.stats();
      assertThat(stats.sizes()).containsEntry(1, 1L).containsEntry(8, 1L).containsEntry(2, 1L);
      assertThat(stats.flushes())
          .containsEntry(FlushReason.IDLE, 2L)
          .containsEntry(FlushReason.FULL, 1L);
      assertThat(stats.succeeded()).isEqualTo(11);
      assertThat(stats.accepted()).isEqualTo(11);
    }
  }

  @Test
  void aFullQueueRejects() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(1).capacity(2).build()) {
      CompletableFuture<Integer> served = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2);
      CompletableFuture<Integer> third = queue.submit(3);
      assertThatExceptionOfType(RejectedExecutionException.class)
          .isThrownBy(() -> queue.submit(4))
          .withMessageContaining("full: 2 requests wait");
      assertThat(third.cancel(true)).as("a cancellation frees the place").isTrue();
      CompletableFuture<Integer> fifth = queue.submit(5);
      gate.open.countDown();
      assertThat(List.of(get(served), get(second), get(fifth))).containsExactly(2, 4, 10);
      assertThat(queue.stats().rejected()).isEqualTo(1);
      assertThat(queue.stats().cancelled()).isEqualTo(1);
      assertThat(gate.batches).doesNotContain(List.of(3));
    }
  }

  @Test
  void whateverItsSubmitterCompletesARequestWithFreesItsPlace() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(1).capacity(2).build()) {
      CompletableFuture<Integer> served = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> late = queue.submit(2);
      CompletableFuture<Integer> known = queue.submit(3);
      assertThat(late.completeExceptionally(new TimeoutException("orTimeout does this"))).isTrue();
      assertThat(known.complete(33)).isTrue();
      assertThat(known.cancel(true)).as("it has an outcome").isFalse();
      assertThat(known.complete(34)).isFalse();
      assertThat(known.completeExceptionally(new TimeoutException())).isFalse();
      CompletableFuture<Integer> fourth = queue.submit(4);
      CompletableFuture<Integer> fifth = queue.submit(5);
      gate.open.countDown();
      assertThat(List.of(get(served), get(fourth), get(fifth), get(known)))
          .containsExactly(2, 8, 10, 33);
      assertThat(failureOf(late)).isInstanceOf(TimeoutException.class);
      assertThat(gate.batches).containsExactly(List.of(1), List.of(4), List.of(5));
      assertThat(queue.stats().cancelled()).isEqualTo(2);
      assertThat(queue.stats().ended()).isEqualTo(queue.stats().accepted());
    }
  }

  @Test
  void aDiscardThatThrowsKeepsNoOtherRequestFromItsOutcome() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue()
            .maxBatch(2)
            .maxDelay(Duration.ofHours(1))
            .discard(
                result -> {
                  throw new IllegalStateException("planted");
                })
            .build()) {
      CompletableFuture<Integer> cancelled = queue.submit(1);
      CompletableFuture<Integer> second = queue.submit(2);
      gate.reached.await();
      assertThat(cancelled.cancel(true)).isTrue();
      gate.open.countDown();
      assertThat(get(second)).isEqualTo(4);
      CompletableFuture<Integer> third = queue.submit(3);
      CompletableFuture<Integer> fourth = queue.submit(4);
      assertThat(get(third) + get(fourth)).as("the worker goes on").isEqualTo(14);
    }
  }

  @Test
  void aWorkerOutlivesAStreamThatCannotBeReset() throws Exception {
    Script script = Script.automatic();
    try (Device device = Device.builder().driver(script.provider()).open()) {
      BatchFunction<Integer, Integer> function =
          batch -> {
            DeviceStream stream = device.streams().current();
            if (batch.inputs().contains(1)) {
              script.fail(stream.id(), Status.EXECUTION, "page fault");
            }
            try (DeviceBuffer buffer = device.allocate(8)) {
              stream.fill(buffer, (byte) 1);
              stream.synchronize();
            }
            return CompletableFuture.completedFuture(batch.inputs());
          };
      try (BatchQueue<Integer, Integer> queue =
          BatchQueue.builder(function).device(device).maxBatch(1).build()) {
        assertThat(failureOf(queue.submit(1))).hasMessageContaining("page fault");
        script.refuse("resetQueue", 1, Status.INTERNAL);
        assertThat(failureOf(queue.submit(2))).isInstanceOf(MetalStreamsException.class);
        assertThat(get(queue.submit(3))).isEqualTo(3);
      }
    }
    assertThat(script.violations()).isEmpty();
  }

  @Test
  void aFullQueueBlocksUntilThereIsAPlace() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).capacity(1).overload(Overload.BLOCK).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2);
      CompletableFuture<CompletableFuture<Integer>> third = new CompletableFuture<>();
      Thread submitter = Thread.ofPlatform().start(() -> third.complete(queue.submit(3)));
      while (submitter.getState() != Thread.State.WAITING) {
        Thread.onSpinWait();
      }
      assertThatExceptionOfType(RejectedExecutionException.class)
          .isThrownBy(() -> queue.submit(4, Duration.ZERO))
          .withMessageContaining("deadline");
      gate.open.countDown();
      assertThat(get(first)).isEqualTo(2);
      assertThat(get(second)).isEqualTo(4);
      assertThat(get(third.get(30, TimeUnit.SECONDS))).isEqualTo(6);
    }
  }

  @Test
  void whoIsInterruptedWhileHeWaitsForAPlaceLearnsSo() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).capacity(1).overload(Overload.BLOCK).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2);
      CompletableFuture<Boolean> flag = new CompletableFuture<>();
      Thread submitter =
          Thread.ofPlatform()
              .start(
                  () -> {
                    try {
                      flag.completeExceptionally(
                          new AssertionError("it was accepted: " + queue.submit(3)));
                    } catch (RejectedExecutionException e) {
                      flag.complete(Thread.currentThread().isInterrupted());
                    }
                  });
      while (submitter.getState() != Thread.State.WAITING) {
        Thread.onSpinWait();
      }
      submitter.interrupt();
      assertThat(flag.get(30, TimeUnit.SECONDS)).isTrue();
      gate.open.countDown();
      assertThat(get(first) + get(second)).isEqualTo(6);
      assertThat(queue.stats().rejected()).isEqualTo(1);
    }
  }

  @Test
  void aFullQueueMakesTheCallerServe() throws Exception {
    List<Thread> servers = new ArrayList<>();
    Gate gate = new Gate();
    BatchFunction<Integer, Integer> noting =
        BatchFunction.of(
            inputs -> {
              synchronized (servers) {
                servers.add(Thread.currentThread());
              }
              return inputs.get(0) == 9 ? List.of(90) : gate.serve(inputs);
            });
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(noting).maxBatch(1).capacity(1).overload(Overload.CALLER_RUNS).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2);
      assertThat(get(queue.submit(9))).isEqualTo(90);
      synchronized (servers) {
        assertThat(servers).hasSize(2).contains(Thread.currentThread());
      }
      gate.open.countDown();
      assertThat(get(first) + get(second)).isEqualTo(6);
      assertThat(queue.stats().flushes()).containsEntry(FlushReason.ALONE, 1L);
      assertThat(queue.stats().accepted()).isEqualTo(3);
      assertThat(queue.stats().ended()).isEqualTo(3);
    }
  }

  /** A submitter that waits for a place. */
  private static final class Blocked {
    private final CompletableFuture<CompletableFuture<Integer>> outcome = new CompletableFuture<>();

    Blocked(BatchQueue<Integer, Integer> queue, int input) {
      awaitParked(Thread.ofPlatform().start(() -> submit(queue, input)));
    }

    private void submit(BatchQueue<Integer, Integer> queue, int input) {
      try {
        outcome.complete(queue.submit(input));
      } catch (RejectedExecutionException e) {
        outcome.completeExceptionally(e);
      }
    }

    /** What submit gave in the end. */
    CompletableFuture<Integer> accepted() throws Exception {
      return outcome.get(30, TimeUnit.SECONDS);
    }

    Throwable refused() throws Exception {
      return failureOf(outcome);
    }
  }

  @Test
  void whoWaitsForAPlaceGetsThatOfACancelledOrExpiredRequest() throws Exception {
    AtomicLong time = new AtomicLong();
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).capacity(1).overload(Overload.BLOCK).clock(time::get).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> cancelled = queue.submit(2);
      Blocked third = new Blocked(queue, 3);
      assertThat(cancelled.cancel(true)).isTrue();
      assertThat(third.accepted().cancel(true)).isTrue(); // still waits itself
      CompletableFuture<Integer> late = queue.submit(4, Duration.ofNanos(10));
      Blocked fifth = new Blocked(queue, 5);
      time.set(10);
      gate.open.countDown();
      assertThat(failureOf(late)).isInstanceOf(TimeoutException.class);
      assertThat(get(fifth.accepted())).isEqualTo(10);
      assertThat(get(first)).isEqualTo(2);
    }
  }

  @Test
  void whoWaitsForAPlaceHearsTheClose() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).capacity(1).overload(Overload.BLOCK).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2);
      Blocked third = new Blocked(queue, 3);
      queue.shut();
      assertThat(third.refused())
          .isInstanceOf(RejectedExecutionException.class)
          .hasMessageContaining("closed");
      gate.open.countDown();
      assertThat(get(first) + get(second)).isEqualTo(6);
    }
  }

  /** Both requests come before a worker looks; the first to look tells the other. */
  @Test
  void twoWorkersServeAtOnce() throws Exception {
    CountDownLatch both = new CountDownLatch(2);
    BatchFunction<Integer, Integer> function =
        batch -> {
          both.countDown();
          both.await();
          return CompletableFuture.completedFuture(batch.inputs());
        };
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function).maxBatch(1).workers(2).name("pair").build()) {
      for (Thread worker : threadsCalled("pair")) {
        awaitParked(worker);
      }
      List<CompletableFuture<Integer>> requests = new ArrayList<>();
      queue.lock().lock();
      try {
        requests.add(queue.submit(1));
        requests.add(queue.submit(2));
      } finally {
        queue.lock().unlock();
      }
      assertThat(get(requests.get(0)) + get(requests.get(1))).isEqualTo(3);
    }
  }

  @Test
  void aRequestThatIsNotServedInTimeExpires() throws Exception {
    AtomicLong time = new AtomicLong();
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(1).clock(time::get).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> late = queue.submit(2, Duration.ofNanos(10));
      CompletableFuture<Integer> patient = queue.submit(3, Duration.ofNanos(11));
      time.set(10);
      gate.open.countDown();
      assertThat(get(first)).isEqualTo(2);
      assertThat(failureOf(late)).isInstanceOf(TimeoutException.class);
      assertThat(get(patient)).isEqualTo(6);
      assertThat(queue.stats().expired()).isEqualTo(1);
      assertThat(gate.batches).doesNotContain(List.of(2));
    }
  }

  @Test
  void allRequestsOfOneDeadlineExpire() throws Exception {
    AtomicLong time = new AtomicLong();
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(1).clock(time::get).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      gate.reached.await();
      CompletableFuture<Integer> second = queue.submit(2, Duration.ofNanos(10));
      CompletableFuture<Integer> third = queue.submit(3, Duration.ofNanos(10));
      time.set(10);
      gate.open.countDown();
      assertThat(get(first)).isEqualTo(2);
      assertThat(failureOf(second)).isInstanceOf(TimeoutException.class);
      assertThat(failureOf(third)).isInstanceOf(TimeoutException.class);
    }
  }

  @Test
  void aDeadlineBeyondAllTimeIsNone() throws Exception {
    AtomicLong time = new AtomicLong(1000);
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.<Integer, Integer>builder(BatchFunction.of(in -> in)).clock(time::get).build()) {
      assertThat(get(queue.submit(1, Duration.ofNanos(Long.MAX_VALUE - 1)))).isEqualTo(1);
      time.set(-1000);
      assertThat(get(queue.submit(2, Duration.ofNanos(Long.MAX_VALUE - 1)))).isEqualTo(2);
    }
  }

  /** A batch has taken 800 ns: the mean, which starts at 0, is an eighth of that. */
  @Test
  void aRequestIsServedAsLongBeforeItsDeadlineAsServingTakes() throws Exception {
    AtomicLong time = new AtomicLong();
    BatchFunction<Integer, Integer> function =
        BatchFunction.of(
            inputs -> {
              time.addAndGet(inputs.get(0));
              return inputs;
            });
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function)
            .maxBatch(2)
            .maxDelay(Duration.ofHours(1))
            .clock(time::get)
            .build()) {
      CompletableFuture<Integer> first = queue.submit(800);
      time.addAndGet(40);
      CompletableFuture<Integer> second = queue.submit(801);
      assertThat(get(first) + get(second)).isEqualTo(1601);
      BatchStats stats = queue.stats();
      assertThat(stats.waitP50()).isZero();
      assertThat(stats.waitP99()).isBetween(40L, 45L);
      assertThat(stats.serveP50()).isBetween(800L, 900L);
      assertThat(stats.meanSize()).isEqualTo(2);
      CompletableFuture<Integer> third = queue.submit(0, Duration.ofNanos(1000));
      time.addAndGet(900);
      assertThat(get(third)).isZero();
      assertThat(queue.stats().flushes()).containsEntry(FlushReason.DEADLINE, 1L);
      assertThat(queue.stats().utilisation()).isEqualTo(0.75);
    }
  }

  @Test
  void aBatchIsAsHeavyAsAllowed() throws Exception {
    Gate gate = new Gate();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().weigher(each -> each, 10).maxDelay(Duration.ofHours(1)).build()) {
      CompletableFuture<Integer> all = queue.submit(10);
      gate.reached.await();
      List<CompletableFuture<Integer>> others = new ArrayList<>();
      for (int weight : new int[] {0, 4, 6, 3, 7}) {
        others.add(queue.submit(weight));
      }
      gate.open.countDown();
      assertThat(get(all)).isEqualTo(20);
      for (CompletableFuture<Integer> each : others) {
        get(each);
      }
      assertThat(gate.batches).containsExactly(List.of(10), List.of(0, 4, 6), List.of(3, 7));
    }
  }

  @Test
  void aRetryPassesOverWhatWasCancelledMeanwhile() throws Exception {
    CountDownLatch failing = new CountDownLatch(1);
    CountDownLatch fail = new CountDownLatch(1);
    ConcurrentLinkedQueue<List<Integer>> batches = new ConcurrentLinkedQueue<>();
    BatchFunction<Integer, Integer> function =
        batch -> {
          batches.add(batch.inputs());
          if (batch.inputs().size() > 1) {
            failing.countDown();
            fail.await();
            throw new IllegalStateException("too many");
          }
          return CompletableFuture.completedFuture(batch.inputs());
        };
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function)
            .maxBatch(3)
            .maxDelay(Duration.ofHours(1))
            .retryAlone(true)
            .build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      CompletableFuture<Integer> second = queue.submit(2);
      CompletableFuture<Integer> third = queue.submit(3);
      failing.await();
      assertThat(second.cancel(true)).isTrue();
      fail.countDown();
      assertThat(get(first) + get(third)).isEqualTo(4);
      assertThat(batches).containsExactly(List.of(1, 2, 3), List.of(1), List.of(3));
      BatchStats stats = queue.stats();
      assertThat(stats.succeeded()).isEqualTo(2);
      assertThat(stats.cancelled()).isEqualTo(1);
      assertThat(stats.flushes()).containsEntry(FlushReason.ALONE, 2L);
    }
  }

  @Test
  void aResultThatNobodyTakesIsDiscarded() throws Exception {
    Gate gate = new Gate();
    ConcurrentLinkedQueue<Integer> discarded = new ConcurrentLinkedQueue<>();
    try (BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(2).maxDelay(Duration.ofHours(1)).discard(discarded::add).build()) {
      CompletableFuture<Integer> first = queue.submit(1);
      CompletableFuture<Integer> second = queue.submit(2);
      gate.reached.await();
      assertThat(first.cancel(true)).isTrue();
      gate.open.countDown();
      assertThat(get(second)).isEqualTo(4);
      assertThat(discarded).containsExactly(2);
    }
  }

  @Test
  void aCompleterThatRefusesKeepsNoRequestFromItsOutcome() throws Exception {
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.<Integer, Integer>builder(BatchFunction.of(in -> in))
            .completer(
                task -> {
                  throw new RejectedExecutionException("planted");
                })
            .build()) {
      assertThat(get(queue.submit(1))).isEqualTo(1);
      assertThat(get(queue.submit(2))).as("the worker goes on").isEqualTo(2);
    }
  }

  @Test
  void oneBadRequestFailsAloneWhenTheFunctionSaysWhich() throws Exception {
    CountDownLatch gathered = new CountDownLatch(1);
    BatchFunction<Integer, Integer> function =
        batch -> {
          gathered.await();
          for (int i = 0; i < batch.inputs().size(); i++) {
            if (batch.inputs().get(i) < 0) {
              batch.fail(i, new IllegalArgumentException("negative"));
            }
          }
          return CompletableFuture.completedFuture(batch.inputs());
        };
    try (BatchQueue<Integer, Integer> queue = BatchQueue.builder(function).build()) {
      CompletableFuture<Integer> good = queue.submit(1);
      CompletableFuture<Integer> bad = queue.submit(-1);
      CompletableFuture<Integer> alsoGood = queue.submit(2);
      gathered.countDown();
      assertThat(get(good) + get(alsoGood)).isEqualTo(3);
      assertThat(failureOf(bad)).isInstanceOf(IllegalArgumentException.class);
      assertThat(queue.stats().failed()).isEqualTo(1);
    }
  }

  @Test
  void aBatchThatFailsIsTriedOneByOne() throws Exception {
    Gate gate = new Gate();
    BatchFunction<Integer, Integer> function =
        BatchFunction.of(
            inputs -> {
              if (inputs.contains(3)) {
                throw new IllegalStateException("three");
              }
              return gate.serve(inputs);
            });
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function).retryAlone(true).build()) {
      CompletableFuture<Integer> first = queue.submit(0);
      gate.reached.await();
      List<CompletableFuture<Integer>> futures = new ArrayList<>();
      for (int i = 1; i <= 4; i++) {
        futures.add(queue.submit(i));
      }
      gate.open.countDown();
      assertThat(get(first)).isZero();
      assertThat(get(futures.get(0))).isEqualTo(2);
      assertThat(get(futures.get(1))).isEqualTo(4);
      assertThat(failureOf(futures.get(2))).hasMessage("three");
      assertThat(get(futures.get(3))).isEqualTo(8);
    }
  }

  @Test
  void aFunctionThatGivesTooFewResultsFailsTheBatch() throws Exception {
    BatchFunction<Integer, Integer> function = BatchFunction.of(inputs -> List.of());
    try (BatchQueue<Integer, Integer> queue = BatchQueue.builder(function).build()) {
      assertThat(failureOf(queue.submit(1))).hasMessageContaining("0 results for 1 requests");
    }
  }

  @Test
  void aStageThatFailsLaterFailsTheBatchWithWhatItFailedOf() throws Exception {
    BatchFunction<Integer, Integer> function =
        batch ->
            CompletableFuture.supplyAsync(
                () -> {
                  throw new IllegalStateException("later"); // arrives in a CompletionException
                });
    try (BatchQueue<Integer, Integer> queue = BatchQueue.builder(function).build()) {
      assertThat(failureOf(queue.submit(1)))
          .isInstanceOf(IllegalStateException.class)
          .hasMessage("later");
    }
  }

  @Test
  void theCloseServesWhatWaits() throws Exception {
    Gate gate = new Gate();
    BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).maxDelay(Duration.ofHours(1)).build();
    CompletableFuture<Integer> first = queue.submit(1);
    gate.reached.await();
    CompletableFuture<Integer> second = queue.submit(2);
    gate.open.countDown();
    queue.close();
    assertThat(first).isCompletedWithValue(2);
    assertThat(second).isCompletedWithValue(4);
    assertThatExceptionOfType(RejectedExecutionException.class)
        .isThrownBy(() -> queue.submit(3))
        .withMessageContaining("closed");
    queue.close();
  }

  @Test
  void aCloseThatRunsOutOfTimeFailsTheRest() throws Exception {
    Gate gate = new Gate();
    BatchQueue<Integer, Integer> queue = gate.queue().maxBatch(1).name("stuck").build();
    CompletableFuture<Integer> served = queue.submit(1);
    gate.reached.await();
    CompletableFuture<Integer> waiting = queue.submit(2);
    queue.close(Duration.ZERO);
    assertThat(failureOf(served)).isInstanceOf(RejectedExecutionException.class);
    assertThat(failureOf(waiting)).isInstanceOf(RejectedExecutionException.class);
    assertThat(queue.stats().abandoned()).isEqualTo(2);
    assertThat(queue.stats().ended()).isEqualTo(queue.stats().accepted());
    awaitNoThread("stuck");
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void anInterruptEndsTheCloseAsIfTheTimeWereOver(int workers) throws Exception {
    Gate gate = new Gate();
    BatchQueue<Integer, Integer> queue =
        gate.queue().maxBatch(1).workers(workers).name("interrupted").build();
    List<CompletableFuture<Integer>> requests = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      requests.add(queue.submit(i));
    }
    gate.reached.await();
    CompletableFuture<Boolean> flag = new CompletableFuture<>();
    Thread closer =
        Thread.ofPlatform()
            .start(
                () -> {
                  queue.close(Duration.ofDays(1));
                  flag.complete(Thread.currentThread().isInterrupted());
                });
    closer.interrupt();
    assertThat(flag.get(30, TimeUnit.SECONDS)).as("the interrupt is kept").isTrue();
    for (CompletableFuture<Integer> request : requests) {
      assertThat(failureOf(request)).isInstanceOf(RejectedExecutionException.class);
    }
    awaitNoThread("interrupted");
  }

  @Test
  void aWorkerThatIsInterruptedForNoReasonGoesOn() throws Exception {
    CountDownLatch taken = new CountDownLatch(1);
    CompletableFuture<List<Integer>> pending = new CompletableFuture<>();
    BatchFunction<Integer, Integer> function =
        batch -> {
          taken.countDown();
          return batch.inputs().get(0) == 1
              ? pending
              : CompletableFuture.completedFuture(batch.inputs());
        };
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function).maxBatch(1).name("disturbed").build()) {
      Thread worker = threadsCalled("disturbed").get(0);
      awaitParked(worker);
      worker.interrupt(); // it waits for work
      CompletableFuture<Integer> first = queue.submit(1);
      CompletableFuture<Integer> second = queue.submit(2);
      taken.await();
      awaitParked(worker);
      worker.interrupt(); // it waits until the first batch is over
      awaitParked(worker);
      assertThat(second).isNotDone();
      pending.complete(List.of(1));
      assertThat(get(first) + get(second)).isEqualTo(3);
    }
  }

  private static List<Thread> threadsCalled(String name) {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().startsWith(name))
        .toList();
  }

  private static void awaitParked(Thread thread) {
    while (thread.getState() != Thread.State.WAITING) {
      Thread.onSpinWait();
    }
  }

  @Test
  void theLongestCloseWaitsForWhatIsServed() throws Exception {
    Gate gate = new Gate();
    BatchQueue<Integer, Integer> queue = gate.queue().build();
    CompletableFuture<Integer> request = queue.submit(1);
    gate.reached.await();
    Thread closer =
        Thread.ofPlatform().start(() -> queue.close(Duration.ofSeconds(Long.MAX_VALUE)));
    while (closer.getState() != Thread.State.TIMED_WAITING) {
      Thread.onSpinWait();
    }
    gate.open.countDown();
    assertThat(get(request)).isEqualTo(2);
    closer.join();
  }

  @Test
  void withoutAStreamToBeHadNobodyWaitsForAPlace() throws Exception {
    Device device = Device.builder().driver(Script.automatic().provider()).open();
    BatchQueue<Integer, Integer> queue =
        new BatchQueue<>(
            BatchQueue.<Integer, Integer>builder(BatchFunction.of(in -> in))
                .capacity(1)
                .overload(Overload.BLOCK)
                .device(device));
    CompletableFuture<Integer> first = queue.submit(1);
    Blocked second = new Blocked(queue, 2);
    device.close();
    queue.start();
    assertThat(failureOf(first)).isInstanceOf(DeviceClosedException.class);
    assertThat(second.refused()).isInstanceOf(RejectedExecutionException.class);
    queue.close();
  }

  @Test
  void withoutAStreamToBeHadEveryRequestLearnsWhy() throws Exception {
    Device device = Device.builder().driver(Script.automatic().provider()).open();
    BatchQueue<Integer, Integer> queue =
        new BatchQueue<>(
            BatchQueue.<Integer, Integer>builder(BatchFunction.of(in -> in)).device(device));
    CompletableFuture<Integer> request = queue.submit(1);
    device.close();
    queue.start();
    assertThat(failureOf(request)).isInstanceOf(DeviceClosedException.class);
    assertThatExceptionOfType(RejectedExecutionException.class).isThrownBy(() -> queue.submit(2));
    queue.close();
    assertThat(queue.stats().abandoned()).isEqualTo(1);
  }

  private static void awaitNoThread(String name) {
    while (Thread.getAllStackTraces().keySet().stream()
        .anyMatch(thread -> thread.getName().startsWith(name))) {
      Thread.onSpinWait();
    }
  }

  @Test
  @SuppressWarnings("NullAway") // nulls are what is tested
  void badArgumentsAreRefused() {
    BatchQueue.Builder<Integer, Integer> builder = new Gate().queue();
    assertThatNullPointerException().isThrownBy(() -> BatchQueue.builder(null));
    assertThatNullPointerException().isThrownBy(() -> BatchFunction.of(null));
    assertThatNullPointerException().isThrownBy(() -> builder.device(null));
    assertThatNullPointerException().isThrownBy(() -> builder.overload(null));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.maxBatch(0));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.capacity(-1));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.workers(0));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.pipeline(0));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.priorities(0));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.maxDelay(Duration.ofNanos(-1)));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.latencyTarget(Duration.ZERO));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> builder.latencyTarget(Duration.ofNanos(-1)));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> builder.closeTimeout(Duration.ofNanos(-1)));
    assertThatIllegalArgumentException().isThrownBy(() -> builder.weigher(each -> 1, 0));
    builder.weigher(each -> each, 10);
    try (BatchQueue<Integer, Integer> queue = builder.build()) {
      assertThatNullPointerException().isThrownBy(() -> queue.submit(null));
      assertThatIllegalArgumentException().isThrownBy(() -> queue.submit(-1));
      assertThatIllegalArgumentException().isThrownBy(() -> queue.submit(11));
      assertThatIllegalArgumentException().isThrownBy(() -> queue.submit(1, Duration.ofNanos(-1)));
      assertThatIllegalArgumentException()
          .isThrownBy(() -> queue.submit(1, Duration.ofDays(1), 1))
          .withMessage("priority 1 is not from 0 to 0");
      assertThat(queue.stats().accepted()).isZero();
    }
  }

  // ---- exactly once

  /** 64 submitters, cancellations, deadlines, failures, and a close in the middle. */
  @Test
  void everyRequestEndsExactlyOnce() throws Exception {
    int submitters = 64;
    int each = 500;
    BatchFunction<Integer, Integer> function =
        batch -> {
          List<Integer> inputs = batch.inputs();
          for (int i = 0; i < inputs.size(); i++) {
            if (inputs.get(i) % 17 == 0) {
              batch.fail(i, new IllegalArgumentException("seventeen"));
            }
          }
          if (inputs.get(0) % 101 == 0) {
            throw new IllegalStateException("all of it");
          }
          return CompletableFuture.supplyAsync(
              () -> inputs.stream().map(input -> input + 1).toList());
        };
    BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function)
            .maxBatch(32)
            .maxDelay(Duration.ofNanos(100_000))
            .capacity(4096)
            .workers(2)
            .pipeline(2)
            .name("once")
            .build();
    AtomicInteger accepted = new AtomicInteger();
    AtomicInteger endings = new AtomicInteger();
    CountDownLatch halfWay = new CountDownLatch(submitters * each / 2);
    ConcurrentLinkedQueue<CompletableFuture<Integer>> futures = new ConcurrentLinkedQueue<>();
    List<Thread> threads = new ArrayList<>();
    for (int t = 0; t < submitters; t++) {
      Random random = new Random(t);
      threads.add(
          Thread.ofVirtual()
              .start(
                  () -> {
                    for (int i = 0; i < each; i++) {
                      try {
                        CompletableFuture<Integer> future =
                            random.nextInt(4) == 0
                                ? queue.submit(
                                    random.nextInt(10_000),
                                    Duration.ofNanos(random.nextInt(1_000_000)))
                                : queue.submit(random.nextInt(10_000));
                        accepted.incrementAndGet();
                        futures.add(
                            future.whenComplete((result, failure) -> endings.incrementAndGet()));
                        if (random.nextInt(8) == 0) {
                          future.cancel(true);
                        }
                      } catch (RejectedExecutionException e) {
                        // Full or closed: not accepted, and its submitter knows.
                      }
                      halfWay.countDown();
                    }
                  }));
    }
    halfWay.await();
    queue.close();
    for (Thread thread : threads) {
      thread.join();
    }
    for (CompletableFuture<Integer> future : futures) {
      try {
        future.get(30, TimeUnit.SECONDS);
      } catch (ExecutionException | CancellationException e) {
        // An outcome like any other.
      }
    }
    BatchStats stats = queue.stats();
    assertThat(futures).hasSize(accepted.get());
    assertThat(stats.accepted()).isEqualTo(accepted.get());
    assertThat(stats.ended()).isEqualTo(accepted.get());
    assertThat(endings).hasValue(accepted.get());
    assertThat(stats.accepted() + stats.rejected()).isEqualTo((long) submitters * each);
    assertThat(stats.succeeded()).isPositive();
    assertThat(stats.cancelled()).isPositive();
    assertThat(stats.failed()).isPositive();
    assertThat(stats.waiting()).isZero();
    awaitNoThread("once");
  }

  /** Looks whether the queue is closed, and then, later, puts the request in. */
  private static final class ChecksThenPushes extends BatchQueue<Integer, Integer> {
    final CountDownLatch checked = new CountDownLatch(1);
    final CountDownLatch closed = new CountDownLatch(1);

    ChecksThenPushes(Builder<Integer, Integer> builder) {
      super(builder);
    }

    private boolean isClosing() {
      lock().lock();
      try {
        return closing();
      } finally {
        lock().unlock();
      }
    }

    @Override
    @Nullable Taken<Integer, Integer> enter(Request<Integer, Integer> request) {
      if (isClosing()) {
        throw new RejectedExecutionException("closed");
      }
      checked.countDown();
      try {
        closed.await();
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
      lock().lock();
      try {
        push(request);
      } finally {
        lock().unlock();
      }
      return null;
    }
  }

  /** Whether a request that meets the close is left without an outcome. */
  private static boolean losesARequest(
      BatchQueue<Integer, Integer> queue, CountDownLatch checked, CountDownLatch closed)
      throws Exception {
    queue.start();
    CompletableFuture<CompletableFuture<Integer>> submitted = new CompletableFuture<>();
    Thread submitter =
        Thread.ofPlatform()
            .start(
                () -> {
                  try {
                    submitted.complete(queue.submit(1));
                  } catch (RejectedExecutionException e) {
                    submitted.completeExceptionally(e);
                  }
                });
    checked.await();
    queue.close();
    closed.countDown();
    submitter.join();
    return !submitted.isCompletedExceptionally() && !submitted.get().isDone();
  }

  @Test
  void aQueueThatChecksAndThenPushesLosesARequestAndTheShippedOneDoesNot() throws Exception {
    ChecksThenPushes broken = new ChecksThenPushes(BatchQueue.builder(BatchFunction.of(in -> in)));
    assertThat(losesARequest(broken, broken.checked, broken.closed)).isTrue();

    BatchQueue<Integer, Integer> shipped =
        new BatchQueue<>(BatchQueue.<Integer, Integer>builder(BatchFunction.of(in -> in)));
    assertThat(losesARequest(shipped, new CountDownLatch(0), new CountDownLatch(1))).isFalse();
  }

  @Test
  void theBatchSizeFollowsTheLatencyTarget() {
    Adaption adaption = new Adaption(100, 8);
    assertThat(adaption.limit()).isEqualTo(1);
    for (int i = 0; i < 20; i++) {
      adaption.served(adaption.limit(), 50);
    }
    assertThat(adaption.limit()).isEqualTo(8);
    adaption.served(8, 101);
    assertThat(adaption.limit()).isEqualTo(6);
    adaption.served(2, 50);
    assertThat(adaption.limit()).as("a batch that was not full proves nothing").isEqualTo(6);
    for (int i = 0; i < 20; i++) {
      adaption.served(1, 200);
    }
    assertThat(adaption.limit()).isEqualTo(1);
  }

  @Test
  void aQueueWithALatencyTargetAdaptsItsBatches() throws Exception {
    AtomicLong time = new AtomicLong();
    BatchFunction<Integer, Integer> function =
        BatchFunction.of(
            inputs -> {
              time.addAndGet(inputs.get(0));
              return inputs;
            });
    try (BatchQueue<Integer, Integer> queue =
        BatchQueue.builder(function)
            .maxBatch(8)
            .latencyTarget(Duration.ofNanos(100))
            .clock(time::get)
            .build()) {
      assertThat(queue.stats().batchLimit()).isEqualTo(1);
      for (int round = 0; round < 2; round++) {
        get(queue.submit(100));
        assertThat(queue.stats().batchLimit()).as("a full batch in time").isEqualTo(2);
        get(queue.submit(101));
        assertThat(queue.stats().batchLimit()).as("too late").isEqualTo(1);
      }
    }
  }

  @Test
  void quantilesAreAtMostAnEighthTooLarge() {
    Histogram histogram = new Histogram();
    assertThat(histogram.quantile(0.5)).isZero();
    for (long value = 1; value <= 100_000; value++) {
      histogram.record(value);
    }
    histogram.record(Long.MAX_VALUE);
    histogram.record(-1); // a clock that was set back
    assertThat(histogram.quantile(0.5)).isBetween(50_000L, 56_250L);
    assertThat(histogram.quantile(0.99)).isBetween(99_000L, 111_375L);
    assertThat(histogram.quantile(1)).isEqualTo(Long.MAX_VALUE);
    Histogram small = new Histogram();
    for (long value : new long[] {3, 5, 5, 8}) {
      small.record(value);
    }
    assertThat(small.quantile(0)).as("small values are exact").isEqualTo(3);
    assertThat(small.quantile(0.25)).isEqualTo(3);
    assertThat(small.quantile(0.5)).isEqualTo(5);
    assertThat(small.quantile(1)).isEqualTo(8);
  }
}
