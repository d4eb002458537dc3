package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.conformance.Rig.Completion;
import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Command buffers of one queue: numbers, order, bounds. */
class QueueConformanceTest extends DriverConformance {

  @ParameterizedTest
  @ValueSource(ints = {0, -1, 65, Integer.MIN_VALUE, Integer.MAX_VALUE})
  void haveABoundThatTheDeviceAllows(int maxInFlight) {
    refused(Status.INVALID_ARGUMENT, () -> driver.createQueue(1, "", maxInFlight));
    driver.destroyQueue(driver.createQueue(1, "", 64));
  }

  @Test
  void haveIdsOfTheirOwn() {
    long first = driver.createQueue(5, "first", 4);
    refused(Status.INVALID_ARGUMENT, () -> driver.createQueue(5, "second", 4));
    driver.destroyQueue(first);
  }

  @Test
  void beginAtZero() {
    Rig.Queue queue = rig.queue();
    assertThat(queue.completed()).isZero();
    assertThat(queue.failed()).isZero();
    assertThat(driver.awaitValue(queue.handle, 0, 0)).isTrue();
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 2, -1, Long.MIN_VALUE, Long.MAX_VALUE})
  void beginTheNextValueAlone(long value) {
    Rig.Queue queue = rig.queue();
    refused(Status.INVALID_STATE, () -> driver.begin(queue.handle, value));
    queue.submitEmpty();
    queue.finish();
    assertThat(queue.completed()).isEqualTo(1);
    refused(Status.INVALID_STATE, () -> driver.begin(queue.handle, 1));
  }

  @Test
  void haveOneOpenCommandBuffer() {
    Rig.Queue queue = rig.queue();
    queue.begin();
    refused(Status.INVALID_STATE, () -> driver.begin(queue.handle, 1));
    refused(Status.INVALID_STATE, () -> driver.begin(queue.handle, 2));
    queue.commit();
    queue.finish();
  }

  @Test
  void refuseWhatIsNotOpen() {
    Rig.Queue queue = rig.queue();
    Rig.Queue other = rig.queue();
    long buffer = rig.buffer(64, 0);
    long executable = driver.compile(relu());
    Arguments arguments = rig.arguments(buffer, rig.floats(0, 0));
    other.submitEmpty();
    List<Long> notOpen = List.of(1L, 2L, 0L, -1L);
    for (int round = 0; round < 2; round++) {
      for (long value : notOpen) {
        refused(Status.INVALID_STATE, () -> driver.commit(queue.handle, value, 0));
        refused(Status.INVALID_STATE, () -> driver.discard(queue.handle, value));
        refused(
            Status.INVALID_STATE,
            () -> driver.encodeFill(queue.handle, value, buffer, 0, 64, (byte) 1));
        refused(
            Status.INVALID_STATE,
            () -> driver.encodeCopy(queue.handle, value, buffer, 0, buffer, 32, 32));
        refused(
            Status.INVALID_STATE, () -> driver.encodeWait(queue.handle, value, other.handle, 1));
        refused(
            Status.INVALID_STATE,
            () -> driver.encodeExecutable(queue.handle, value, executable, arguments, 2));
      }
      if (round == 0) {
        queue.submitEmpty(); // In the second round, value 1 is committed.
      }
    }
    queue.finish();
    assertThat(rig.bytes(buffer, 64)).isEqualTo(repeated(0, 64));
  }

  @Test
  void beginADiscardedValueAgain() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(8, 0);
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, buffer, 0, 8, (byte) 9);
    driver.discard(queue.handle, value);
    refused(Status.INVALID_STATE, () -> driver.commit(queue.handle, value, 0));
    assertThat(queue.begin()).isEqualTo(value);
    queue.commit();
    queue.finish();
    assertThat(rig.bytes(buffer, 8)).as("what was discarded").isEqualTo(repeated(0, 8));
    assertThat(rig.completionsOf(queue)).hasSize(1);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 7, 64})
  void areBoundedInFlight(int maxInFlight) {
    Rig.Queue queue = rig.queue(maxInFlight);
    subject.hold(driver, queue.handle);
    for (int i = 0; i < maxInFlight; i++) {
      queue.submitEmpty();
    }
    refused(Status.BUSY, queue::begin);
    refused(Status.BUSY, queue::begin);
    subject.release(driver, queue.handle);
    queue.finish();
    queue.submitEmpty();
    queue.finish();
    assertThat(queue.completed()).isEqualTo(maxInFlight + 1);
  }

  @Test
  void runInTheOrderOfCommits() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(1000, 0);
    long trace = rig.buffer(60, 0);
    for (int i = 0; i < 60; i++) {
      int position = i;
      queue.submitFill(buffer, 0, 1000, i + 1);
      queue.submit(
          value -> driver.encodeCopy(queue.handle, value, buffer, 999, trace, position, 1));
      if (queue.committed - queue.completed() > 60) {
        queue.finish();
      }
    }
    queue.finish();
    byte[] traced = rig.bytes(trace, 60);
    for (int i = 0; i < 60; i++) {
      assertThat(traced[i]).isEqualTo((byte) (i + 1));
    }
  }

  @Test
  void runTheOperationsOfACommandBufferInOrder() {
    Rig.Queue queue = rig.queue();
    long a = rig.buffer(64, 0);
    long b = rig.buffer(64, 0);
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, a, 0, 64, (byte) 1);
    driver.encodeCopy(queue.handle, value, a, 0, b, 0, 64);
    driver.encodeFill(queue.handle, value, a, 0, 64, (byte) 2);
    driver.encodeCopy(queue.handle, value, a, 0, b, 32, 32);
    queue.commit();
    queue.finish();
    assertThat(rig.bytes(a, 64)).isEqualTo(repeated(2, 64));
    byte[] both = repeated(1, 64);
    Arrays.fill(both, 32, 64, (byte) 2);
    assertThat(rig.bytes(b, 64)).isEqualTo(both);
  }

  @Test
  void runOnlyWhatIsCommitted() {
    Rig.Queue queue = rig.queue();
    Rig.Queue other = rig.queue();
    long buffer = rig.buffer(8, 0);
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, buffer, 0, 8, (byte) 9);
    other.submitEmpty();
    other.finish();
    assertThat(queue.completed()).isZero();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(0, 8));
    queue.commit();
    queue.finish();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(9, 8));
  }

  @ParameterizedTest
  @ValueSource(ints = {Driver.COMMIT_DEFAULT, Driver.COMMIT_WAITING, Driver.COMMIT_CONTINUE})
  void takeEveryHintAndRunWithoutAWait(int flags) {
    Rig.Queue queue = rig.queue();
    queue.begin();
    queue.commit(flags);
    queue.finish();
    assertThat(queue.completed()).isEqualTo(1);
  }

  @Test
  void areAwaited() {
    Rig.Queue queue = rig.queue();
    subject.hold(driver, queue.handle);
    queue.submitEmpty();
    queue.submitEmpty();
    assertThat(driver.awaitValue(queue.handle, 1, 0)).isFalse();
    assertThat(driver.awaitValue(queue.handle, 1, 1000)).isFalse();
    subject.release(driver, queue.handle);
    if (driver.canAwait()) {
      assertThat(driver.awaitValue(queue.handle, 2, FOREVER)).isTrue();
    }
    queue.finish();
    assertThat(driver.awaitValue(queue.handle, 1, 0)).isTrue();
    assertThat(driver.awaitValue(queue.handle, 2, FOREVER)).isTrue();
  }

  @Test
  void areAwaitedRightAfterACommitThatSaysSo() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(8, 0);
    for (int i = 1; i <= 100; i++) {
      long value = queue.begin();
      driver.encodeFill(queue.handle, value, buffer, 0, 8, (byte) i);
      queue.commit(Driver.COMMIT_WAITING);
      if (!driver.awaitValue(queue.handle, value, FOREVER)) {
        queue.finish();
      }
      assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(i, 8));
    }
  }

  @Test
  void areNotAwaitedForWhatIsNotCommitted() {
    Rig.Queue queue = rig.queue();
    refused(Status.INVALID_STATE, () -> driver.awaitValue(queue.handle, 1, 0));
    queue.begin();
    refused(Status.INVALID_STATE, () -> driver.awaitValue(queue.handle, 1, FOREVER));
    queue.commit();
    refused(Status.INVALID_STATE, () -> driver.awaitValue(queue.handle, 2, FOREVER));
    refused(Status.INVALID_STATE, () -> driver.awaitValue(queue.handle, Long.MAX_VALUE, 0));
    refused(Status.INVALID_ARGUMENT, () -> driver.awaitValue(queue.handle, 1, -1));
    queue.finish();
  }

  @Test
  void finishTheirWorkWhenTheyEnd() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(8, 0);
    for (int i = 1; i <= 20; i++) {
      queue.submitFill(buffer, 0, 8, i);
    }
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, buffer, 0, 8, (byte) 99);
    driver.destroyQueue(queue.handle);
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(20, 8));
    driver.destroyBuffer(buffer);
    while (rig.drain(0) > 0) {
      // Completions outlive their queue.
    }
    assertThat(rig.completionsOf(queue)).extracting(Completion::value).hasSize(20).isSorted();
  }
}
