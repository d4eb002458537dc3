package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.conformance.Rig.Completion;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.Status;
import java.util.List;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.Test;

/** Failures stick, travel along waits, and hang nobody. */
class FailureConformanceTest extends DriverConformance {

  /** Its next command buffer is an empty one that fails. */
  private void fail(Rig.Queue queue) {
    subject.failNext(driver, queue.handle);
    queue.submitEmpty();
    queue.finish();
  }

  @Test
  void areSignalledAndReported() {
    Rig.Queue queue = rig.queue();
    queue.submitEmpty();
    queue.finish();
    fail(queue);
    assertThat(queue.completed()).isEqualTo(2);
    assertThat(queue.failed()).isEqualTo(2);
    assertThat(driver.awaitValue(queue.handle, 2, FOREVER)).isTrue();
    assertThat(rig.completion(queue, 1).failure()).isNull();
    CompletionFailure failure = rig.failure(queue, 2);
    assertThat(failure.status()).isEqualTo(Status.EXECUTION);
    assertThat(failure.message()).isNotBlank();
    assertThat(failure.causeQueueId()).isZero();
    assertThat(failure.causeValue()).isZero();
  }

  @Test
  void keepTheFirstAndLetTheQueueGoOn() {
    Rig.Queue queue = rig.queue();
    fail(queue);
    fail(queue);
    assertThat(queue.failed()).isEqualTo(1);
    queue.submitEmpty();
    queue.finish();
    assertThat(queue.completed()).isEqualTo(3);
    assertThat(queue.failed()).isEqualTo(1);
  }

  @Test
  void freeTheirBuffers() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    subject.failNext(driver, queue.handle);
    queue.submitFill(buffer, 0, 64, 1);
    queue.finish();
    driver.destroyBuffer(buffer);
  }

  @Test
  void travelAlongWaitsAndNameTheirOrigin() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    Rig.Queue c = rig.queue();
    long buffer = rig.buffer(8, 0);
    a.submitEmpty();
    a.finish();
    subject.hold(driver, a.handle);
    a.submitEmpty();
    b.submit(
        value -> {
          b.encodeWait(value, a, 2);
          driver.encodeFill(b.handle, value, buffer, 0, 8, (byte) 1);
        });
    c.submit(
        value -> {
          c.encodeWait(value, b, 1);
          driver.encodeFill(c.handle, value, buffer, 0, 8, (byte) 1);
        });
    subject.failNext(driver, a.handle);
    subject.release(driver, a.handle);
    c.finish();
    b.finish();
    if (subject.stopsAtFailedWaits()) {
      assertThat(rig.bytes(buffer, 8)).as("work after a failed wait").isEqualTo(repeated(0, 8));
    }
    for (Rig.Queue dependent : List.of(b, c)) {
      assertThat(dependent.failed()).isEqualTo(1);
      CompletionFailure failure = rig.failure(dependent, 1);
      assertThat(failure.status()).isEqualTo(Status.DEPENDENCY);
      assertThat(failure.causeQueueId()).isEqualTo(a.id);
      assertThat(failure.causeValue()).isEqualTo(2);
      assertThat(failure.message()).isNotBlank();
    }
    List<Long> order = rig.completions.stream().map(Completion::queueId).toList();
    assertThat(order).containsExactly(a.id, a.id, b.id, c.id);
    driver.destroyBuffer(buffer);
  }

  @Test
  void doNotStrikeWaitsForEarlierValues() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    a.submitEmpty();
    a.finish();
    fail(a);
    b.submit(value -> b.encodeWait(value, a, 1));
    b.finish();
    assertThat(b.failed()).isZero();
    assertThat(rig.completion(b, 1).failure()).isNull();
  }

  @Test
  void strikeWaitsForLaterValues() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    fail(a);
    a.submitEmpty();
    b.submit(value -> b.encodeWait(value, a, 2));
    b.finish();
    assertThat(b.failed()).isEqualTo(1);
    CompletionFailure failure = rig.failure(b, 1);
    assertThat(failure.causeQueueId()).isEqualTo(a.id);
    assertThat(failure.causeValue()).isEqualTo(1);
  }

  @Test
  void atAWaitDoNotEndBeforeTheWaitsBehind() {
    Rig.Queue failed = rig.queue();
    Rig.Queue late = rig.queue();
    fail(failed);
    endsAfter(
        late,
        (dependent, value) -> {
          dependent.encodeWait(value, failed, 1);
          dependent.encodeWait(value, late, 1);
        },
        () -> {});
  }

  @Test
  void ofTheirOwnDoNotEndBeforeTheWaitsBehind() {
    long buffer = rig.buffer(8, 0);
    Rig.Queue late = rig.queue();
    endsAfter(
        late,
        (failing, value) -> {
          subject.failNext(driver, failing.handle);
          driver.encodeFill(failing.handle, value, buffer, 0, 8, (byte) 1);
          failing.encodeWait(value, late, 1);
        },
        subject::awaitStruck);
    driver.destroyBuffer(buffer);
  }

  /** What fails although it waits for `late` is completed after it, and so is who waits for it. */
  private void endsAfter(
      Rig.Queue late, BiConsumer<Rig.Queue, Long> encode, Runnable awaitFailure) {
    Rig.Queue failing = rig.queue();
    Rig.Queue next = rig.queue();
    Rig.Queue bystander = rig.queue();
    subject.hold(driver, late.handle);
    late.submitEmpty();
    failing.submit(value -> encode.accept(failing, value));
    awaitFailure.run();
    next.submit(value -> next.encodeWait(value, failing, 1));
    for (int i = 0; i < 10; i++) { // time enough for the two
      bystander.submitEmpty();
      bystander.finish();
    }
    assertThat(failing.completed()).isZero();
    assertThat(next.completed()).isZero();
    subject.release(driver, late.handle);
    next.finish();
    failing.finish();
    assertThat(failing.failed()).isEqualTo(1);
    assertThat(next.failed()).isEqualTo(1);
    List<Long> order = rig.completions.stream().map(Completion::queueId).toList();
    assertThat(order).containsSubsequence(late.id, failing.id, next.id);
  }

  @Test
  void thatComeFirstInTheOrderOfTheWaitsCount() {
    Rig.Queue failed = rig.queue();
    Rig.Queue before = rig.queue();
    Rig.Queue behind = rig.queue();
    Rig.Queue first = rig.queue();
    Rig.Queue second = rig.queue();
    Rig.Queue fine = rig.queue();
    Rig.Queue third = rig.queue();
    fail(failed);
    subject.hold(driver, before.handle);
    subject.hold(driver, behind.handle);
    before.submitEmpty();
    behind.submitEmpty();
    first.submit(
        value -> {
          first.encodeWait(value, before, 1);
          first.encodeWait(value, failed, 1);
          first.encodeWait(value, behind, 1);
        });
    second.submit(
        value -> {
          second.encodeWait(value, failed, 1);
          second.encodeWait(value, behind, 1);
        });
    subject.hold(driver, fine.handle);
    fine.submitEmpty();
    third.submit(
        value -> {
          third.encodeWait(value, fine, 1);
          third.encodeWait(value, failed, 1);
          third.encodeWait(value, behind, 1);
        });
    subject.failNext(driver, behind.handle);
    subject.release(driver, behind.handle);
    second.finish(); // so that it does not take the next failure
    subject.failNext(driver, before.handle);
    subject.release(driver, before.handle);
    first.finish();
    subject.release(driver, fine.handle);
    third.finish();
    assertThat(rig.failure(first, 1).causeQueueId()).isEqualTo(before.id);
    assertThat(rig.failure(second, 1).causeQueueId()).isEqualTo(failed.id);
    assertThat(rig.failure(third, 1).causeQueueId()).isEqualTo(failed.id);
  }

  @Test
  void areForgottenByAReset() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    fail(a);
    driver.resetQueue(a.handle);
    assertThat(a.failed()).isZero();
    assertThat(a.completed()).as("values are never reset").isEqualTo(1);
    a.submitEmpty();
    b.submit(value -> b.encodeWait(value, a, 2));
    b.finish();
    assertThat(b.failed()).isZero();
    fail(a);
    assertThat(a.failed()).isEqualTo(3);
  }

  @Test
  void areNotForgottenWhileWorkIsUnderWay() {
    Rig.Queue queue = rig.queue();
    fail(queue);
    long value = queue.begin();
    refused(Status.INVALID_STATE, () -> driver.resetQueue(queue.handle));
    driver.discard(queue.handle, value);
    subject.hold(driver, queue.handle);
    queue.submitEmpty();
    refused(Status.INVALID_STATE, () -> driver.resetQueue(queue.handle));
    assertThat(queue.failed()).isEqualTo(1);
    subject.release(driver, queue.handle);
    queue.finish();
    driver.resetQueue(queue.handle);
    driver.resetQueue(queue.handle);
    assertThat(queue.failed()).isZero();
  }
}
