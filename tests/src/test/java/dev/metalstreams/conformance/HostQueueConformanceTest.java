package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.conformance.Rig.Completion;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

/** Queues whose values the CPU signals. */
class HostQueueConformanceTest extends DriverConformance {
  private static final long ID = 1L << 40;

  /** A command buffer that waits for the host, then fills. */
  private void submitBehind(Rig.Queue queue, long host, long awaited, long buffer, int fill) {
    queue.submit(
        value -> {
          driver.encodeWait(queue.handle, value, host, awaited);
          driver.encodeFill(queue.handle, value, buffer, 0, 8, (byte) fill);
        });
  }

  private List<Completion> completionsOfTheHost() {
    return rig.completions.stream().filter(completion -> completion.queueId() == ID).toList();
  }

  @Test
  void holdBackWorkUntilTheSignal() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    Rig.Queue probe = rig.queue();
    long buffer = rig.buffer(8, 0);
    assertThat(driver.completedValue(host)).isZero();
    assertThat(driver.awaitValue(host, 1, 0)).isFalse();
    submitBehind(queue, host, 1, buffer, 5);
    probe.submitEmpty();
    probe.finish();
    assertThat(queue.completed()).isZero();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(0, 8));
    driver.signal(host, 1, null);
    assertThat(driver.completedValue(host)).isEqualTo(1);
    assertThat(driver.awaitValue(host, 1, 0)).isTrue();
    queue.finish();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(5, 8));
    assertThat(completionsOfTheHost()).containsExactly(new Completion(ID, 1, 0, 0, null));
    driver.destroyQueue(host);
  }

  @Test
  void holdNothingBackAfterTheSignal() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(8, 0);
    driver.signal(host, 1, null);
    submitBehind(queue, host, 1, buffer, 5);
    queue.finish();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(5, 8));
    driver.destroyQueue(host);
  }

  @Test
  void letGoOfAllWhoWait() {
    long host = driver.createHostQueue(ID, "host");
    List<Rig.Queue> waiting = new ArrayList<>();
    List<Long> buffers = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      Rig.Queue queue = rig.queue();
      long buffer = rig.buffer(8, 0);
      submitBehind(queue, host, 1, buffer, i + 1);
      waiting.add(queue);
      buffers.add(buffer);
    }
    driver.signal(host, 1, null);
    for (int i = 0; i < 20; i++) {
      waiting.get(i).finish();
      assertThat(rig.bytes(buffers.get(i), 8)).isEqualTo(repeated(i + 1, 8));
    }
    driver.destroyQueue(host);
  }

  @Test
  void areAwaitedByThreads() throws Exception {
    if (!driver.canAwait()) {
      assertThat(driver.awaitValue(driver.createHostQueue(ID, "host"), 3, FOREVER)).isFalse();
      return;
    }
    long host = driver.createHostQueue(ID, "host");
    List<CompletableFuture<Boolean>> waiters = new ArrayList<>();
    for (int i = 1; i <= 4; i++) {
      int value = i;
      waiters.add(
          CompletableFuture.supplyAsync(
              () -> driver.awaitValue(host, value, FOREVER), task -> new Thread(task).start()));
    }
    assertThat(driver.awaitValue(host, 4, 1000)).isFalse();
    driver.signal(host, 3, null);
    for (int i = 0; i < 3; i++) {
      assertThat(waiters.get(i).get()).isTrue();
    }
    assertThat(waiters.get(3)).isNotDone();
    driver.signal(host, 4, null);
    assertThat(waiters.get(3).get()).isTrue();
    driver.destroyQueue(host);
  }

  @Test
  void coverTheValuesBefore() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue early = rig.queue();
    Rig.Queue late = rig.queue();
    long a = rig.buffer(8, 0);
    long b = rig.buffer(8, 0);
    submitBehind(early, host, 3, a, 1);
    submitBehind(late, host, 6, b, 2);
    driver.signal(host, 5, null);
    early.finish();
    assertThat(late.completed()).isZero();
    refused(Status.INVALID_STATE, () -> driver.signal(host, 5, null));
    refused(Status.INVALID_STATE, () -> driver.signal(host, 2, "late"));
    refused(Status.INVALID_STATE, () -> driver.signal(host, 0, null));
    driver.signal(host, 6, null);
    late.finish();
    assertThat(completionsOfTheHost()).extracting(Completion::value).containsExactly(5L, 6L);
    driver.destroyQueue(host);
  }

  @Test
  void failWhatWaits() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    Rig.Queue late = rig.queue();
    long a = rig.buffer(8, 0);
    long b = rig.buffer(8, 0);
    driver.signal(host, 1, null);
    submitBehind(queue, host, 2, a, 1);
    driver.signal(host, 4, "the disk is full");
    assertThat(driver.failedValue(host)).isEqualTo(2);
    assertThat(driver.completedValue(host)).isEqualTo(4);
    submitBehind(late, host, 4, b, 1); // known to have failed
    queue.finish();
    late.finish();
    if (subject.stopsAtFailedWaits()) {
      assertThat(rig.bytes(a, 8)).isEqualTo(repeated(0, 8));
    }
    assertThat(rig.bytes(b, 8)).isEqualTo(repeated(0, 8));
    CompletionFailure failure = completionsOfTheHost().getLast().failure();
    assertThat(failure)
        .isEqualTo(new CompletionFailure(Status.EXECUTION, "the disk is full", 0, 0));
    for (Rig.Queue dependent : List.of(queue, late)) {
      CompletionFailure followed = rig.failure(dependent, 1);
      assertThat(followed.status()).isEqualTo(Status.DEPENDENCY);
      assertThat(followed.causeQueueId()).isEqualTo(ID);
      assertThat(followed.causeValue()).isEqualTo(2);
    }
    assertThat(rig.completions.stream().map(Completion::queueId).toList())
        .as("a failure is told before what depends on it")
        .containsSubsequence(ID, ID, queue.id);
    driver.resetQueue(host);
    assertThat(driver.failedValue(host)).isZero();
    driver.resetQueue(late.handle);
    driver.signal(host, 5, null);
    submitBehind(late, host, 5, b, 3);
    late.finish();
    assertThat(rig.bytes(b, 8)).isEqualTo(repeated(3, 8));
    driver.destroyQueue(host);
  }

  @Test
  void runNothing() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    refused(Status.INVALID_STATE, () -> driver.begin(host, 1));
    refused(Status.INVALID_STATE, () -> driver.commit(host, 1, 0));
    refused(Status.INVALID_STATE, () -> driver.discard(host, 1));
    refused(Status.INVALID_STATE, () -> driver.encodeWait(host, 1, queue.handle, 0));
    refused(Status.INVALID_STATE, () -> driver.signal(queue.handle, 1, null));
    refused(Status.INVALID_ARGUMENT, () -> driver.createHostQueue(ID, "again"));
    refused(Status.INVALID_ARGUMENT, () -> driver.createHostQueue(queue.id, "taken"));
    refused(Status.INVALID_ARGUMENT, () -> driver.createQueue(ID, "taken", 4));
    driver.destroyQueue(host);
  }

  @Test
  void mayEndWhileTheyAreAwaited() {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    Rig.Queue discarded = rig.queue();
    long buffer = rig.buffer(8, 0);
    submitBehind(queue, host, 3, buffer, 1);
    long value = discarded.begin();
    driver.encodeWait(discarded.handle, value, host, 9);
    driver.discard(discarded.handle, value);
    driver.destroyQueue(host);
    queue.finish();
    assertThat(rig.failure(queue, 1).status()).isEqualTo(Status.DEPENDENCY);
    assertThat(rig.failure(queue, 1).causeQueueId()).isEqualTo(ID);
    assertThat(completionsOfTheHost()).extracting(Completion::value).containsExactly(3L);
    // Signalled, and gone before what waits has run.
    long next = driver.createHostQueue(ID, "host");
    driver.resetQueue(queue.handle);
    subject.hold(driver, queue.handle);
    submitBehind(queue, next, 1, buffer, 7);
    driver.signal(next, 1, null);
    driver.destroyQueue(next);
    subject.release(driver, queue.handle);
    queue.finish();
    assertThat(queue.failed()).isZero();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(7, 8));
  }

  @Test
  void doNotKeepTheDeviceFromClosing() throws Exception {
    long host = driver.createHostQueue(ID, "host");
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(8, 0);
    submitBehind(queue, host, 1, buffer, 1);
    CompletableFuture<Boolean> waiter =
        CompletableFuture.supplyAsync(
            () -> {
              try {
                return driver.awaitValue(host, 2, driver.canAwait() ? FOREVER : 0);
              } catch (DriverException e) {
                assertThat(e.status()).isEqualTo(Status.INVALID_STATE);
                return false;
              }
            },
            task -> new Thread(task).start());
    driver.close();
    assertThat(waiter.get()).isFalse();
    assertThat(queue.completed()).isEqualTo(1);
    assertThat(queue.failed()).isEqualTo(1);
    refused(Status.INVALID_STATE, () -> driver.signal(host, 3, null));
  }
}
