package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.conformance.Rig.Completion;
import dev.metalstreams.driver.Status;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Order between queues. */
class WaitConformanceTest extends DriverConformance {

  @Test
  void holdBackWhatComesAfter() {
    Rig.Queue first = rig.queue();
    Rig.Queue second = rig.queue();
    Rig.Queue probe = rig.queue();
    long buffer = rig.buffer(64, 0);
    long copy = rig.buffer(64, 0);
    subject.hold(driver, first.handle);
    first.submitFill(buffer, 0, 64, 1);
    second.submit(
        value -> {
          second.encodeWait(value, first, 1);
          driver.encodeCopy(second.handle, value, buffer, 0, copy, 0, 64);
        });
    probe.submitEmpty();
    probe.finish();
    assertThat(second.completed()).isZero();
    assertThat(rig.bytes(copy, 64)).isEqualTo(repeated(0, 64));
    subject.release(driver, first.handle);
    second.finish();
    assertThat(rig.bytes(copy, 64)).isEqualTo(repeated(1, 64));
    assertThat(first.completed()).isEqualTo(1);
    Completion awaited = rig.completion(first, 1);
    Completion waiting = rig.completion(second, 1);
    assertThat(waiting.endNanos()).isGreaterThanOrEqualTo(awaited.endNanos());
  }

  @Test
  void mayComeInTheMiddle() {
    Rig.Queue first = rig.queue();
    Rig.Queue second = rig.queue();
    long buffer = rig.buffer(8, 0);
    subject.hold(driver, first.handle);
    first.submitFill(buffer, 0, 8, 1);
    long own = rig.buffer(8, 0);
    second.submit(
        value -> {
          driver.encodeFill(second.handle, value, own, 0, 8, (byte) 5);
          second.encodeWait(value, first, 1);
          driver.encodeFill(second.handle, value, buffer, 0, 8, (byte) 2);
        });
    subject.release(driver, first.handle);
    second.finish();
    assertThat(rig.bytes(buffer, 8)).isEqualTo(repeated(2, 8));
    assertThat(rig.bytes(own, 8)).isEqualTo(repeated(5, 8));
  }

  @Test
  void pingPongWithoutLosingAStep() {
    Rig.Queue left = rig.queue();
    Rig.Queue right = rig.queue();
    long a = rig.floats(1);
    long b = rig.floats(0);
    long doubling = driver.compile(doubling());
    for (int i = 1; i <= 20; i++) {
      int step = i;
      left.submit(
          value -> {
            left.encodeWait(value, right, step - 1);
            driver.encodeExecutable(left.handle, value, doubling, rig.arguments(a, b), 2);
          });
      right.submit(
          value -> {
            right.encodeWait(value, left, step);
            driver.encodeCopy(right.handle, value, b, 0, a, 0, 4);
          });
    }
    right.finish();
    left.finish();
    assertThat(rig.readFloats(a, 1)[0]).isEqualTo(1 << 20);
  }

  @Test
  void ofManyQueuesForOneTieUpNothing() {
    Rig.Queue root = rig.queue();
    Rig.Queue bystander = rig.queue();
    List<Rig.Queue> waiting = new ArrayList<>();
    long buffer = rig.buffer(64, 0);
    subject.hold(driver, root.handle);
    root.submitEmpty();
    for (int i = 0; i < 64; i++) {
      Rig.Queue queue = rig.queue();
      int position = i;
      queue.submit(
          value -> {
            queue.encodeWait(value, root, 1);
            driver.encodeFill(queue.handle, value, buffer, position, 1, (byte) 1);
          });
      waiting.add(queue);
    }
    bystander.submitEmpty();
    bystander.finish();
    assertThat(waiting).allSatisfy(queue -> assertThat(queue.completed()).isZero());
    subject.release(driver, root.handle);
    waiting.forEach(Rig.Queue::finish);
    assertThat(rig.bytes(buffer, 64)).isEqualTo(repeated(1, 64));
  }

  @Test
  void forSeveralQueuesHoldUntilTheLast() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    Rig.Queue joined = rig.queue();
    subject.hold(driver, a.handle);
    subject.hold(driver, b.handle);
    a.submitEmpty();
    b.submitEmpty();
    joined.submit(
        value -> {
          joined.encodeWait(value, a, 1);
          joined.encodeWait(value, b, 1);
        });
    subject.release(driver, b.handle);
    b.finish();
    assertThat(joined.completed()).isZero();
    subject.release(driver, a.handle);
    joined.finish();
  }

  @Test
  void forWhatIsPastHoldAtOnce() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    a.submitEmpty();
    a.finish();
    b.submit(
        value -> {
          b.encodeWait(value, a, 1);
          b.encodeWait(value, a, 0);
        });
    b.finish();
    assertThat(b.completed()).isEqualTo(1);
  }

  @Test
  void forTheOwnQueueDoNothing() {
    Rig.Queue queue = rig.queue();
    queue.submitEmpty();
    queue.submit(value -> queue.encodeWait(value, queue, 1));
    queue.finish();
    assertThat(queue.completed()).isEqualTo(2);
  }

  @Test
  void forWhatIsNotCommittedAreRefused() {
    Rig.Queue a = rig.queue();
    Rig.Queue b = rig.queue();
    long value = b.begin();
    refused(Status.INVALID_STATE, () -> b.encodeWait(value, a, 1));
    a.begin();
    refused(Status.INVALID_STATE, () -> b.encodeWait(value, a, 1));
    refused(Status.INVALID_STATE, () -> b.encodeWait(value, a, Long.MAX_VALUE));
    a.commit();
    b.encodeWait(value, a, 1);
    b.commit();
    b.finish();
    a.finish();
  }
}
