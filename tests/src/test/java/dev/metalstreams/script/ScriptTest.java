package dev.metalstreams.script;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Violation.Rule;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * What the script adds to a driver: the test's say in what runs, fails and gets lost, and the
 * oracle.
 */
@Timeout(30)
class ScriptTest {
  private record Seen(long queueId, long value, @Nullable CompletionFailure failure) {}

  private final Script script = Script.manual();
  private final Driver driver = script.driver();
  private final List<Seen> seen = new ArrayList<>();

  private long queue(long id) {
    return driver.createQueue(id, "", 64);
  }

  private void fill(long queue, long value, long buffer, int content) {
    driver.begin(queue, value);
    driver.encodeFill(queue, value, buffer, 0, 8, (byte) content);
    driver.commit(queue, value, 0);
  }

  private byte first(long buffer) {
    return driver.contents(buffer, 0, 8).get(0);
  }

  private int drain() {
    return driver.nextCompletions(
        (id, value, start, end, failure) -> seen.add(new Seen(id, value, failure)), 0);
  }

  @Test
  void nothingRunsByItself() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    fill(queue, 1, buffer, 1);
    fill(queue, 2, buffer, 2);
    assertThat(driver.completedValue(queue)).isZero();
    assertThat(script.runnable()).containsExactly(1L);
    assertThat(first(buffer)).isEqualTo(ScriptedBuffer.FRESH);
    script.run(1);
    assertThat(driver.completedValue(queue)).isEqualTo(1);
    assertThat(first(buffer)).isEqualTo((byte) 1);
    script.run(1);
    assertThat(first(buffer)).isEqualTo((byte) 2);
    assertThat(script.runnable()).isEmpty();
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(() -> script.run(1));
  }

  @Test
  void anOperationIsDoneBeforeItsCompletionIsASeparateStep() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    fill(queue, 1, buffer, 1);
    assertThat(script.step(1)).isFalse();
    assertThat(first(buffer)).isEqualTo((byte) 1);
    assertThat(driver.completedValue(queue)).isZero();
    assertThat(drain()).isZero();
    assertThat(script.step(1)).isTrue();
    assertThat(driver.completedValue(queue)).isEqualTo(1);
    assertThat(drain()).isEqualTo(1);
  }

  @Test
  void aWaitBlocksWhatComesAfterItAndNothingBefore() {
    long a = queue(1);
    long b = queue(2);
    long before = driver.createBuffer(8);
    long after = driver.createBuffer(8);
    fill(a, 1, before, 1);
    driver.begin(b, 1);
    driver.encodeFill(b, 1, after, 0, 8, (byte) 3);
    driver.encodeWait(b, 1, a, 1);
    driver.encodeCopy(b, 1, before, 0, after, 0, 8);
    driver.commit(b, 1, 0);
    assertThat(script.runnable()).containsExactly(1L, 2L);
    script.step(2);
    assertThat(first(after)).isEqualTo((byte) 3);
    assertThat(script.runnable()).containsExactly(1L);
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(() -> script.run(2));
    script.run(1);
    script.run(2);
    assertThat(first(after)).isEqualTo((byte) 1);
  }

  @Test
  void randomOrdersDifferAndKeepTheOrderOfEachQueue() {
    Set<List<Long>> orders = new HashSet<>();
    for (long seed = 0; seed < 20; seed++) {
      Script each = Script.manual();
      Driver on = each.driver();
      List<Long> order = new ArrayList<>();
      for (long id = 1; id <= 3; id++) {
        long queue = on.createQueue(id, "", 8);
        for (long value = 1; value <= 3; value++) {
          on.begin(queue, value);
          on.commit(queue, value, 0);
        }
      }
      each.runRandomly(seed);
      on.nextCompletions((id, value, start, end, failure) -> order.add(10 * id + value), 0);
      assertThat(order).hasSize(9);
      for (long id = 1; id <= 3; id++) {
        long of = id;
        assertThat(order.stream().filter(each2 -> each2 / 10 == of)).isSorted();
      }
      orders.add(order);
    }
    assertThat(orders).hasSizeGreaterThan(10);
  }

  @Test
  void failuresStrikeTheNextStepAndGoDownTheChain() {
    long a = queue(1);
    long b = queue(2);
    long buffer = driver.createBuffer(8);
    fill(a, 1, buffer, 1);
    driver.begin(b, 1);
    driver.encodeWait(b, 1, a, 1);
    driver.commit(b, 1, 0);
    script.fail(1, Status.EXECUTION, "page fault");
    script.runAll();
    assertThat(first(buffer)).isEqualTo(ScriptedBuffer.FRESH);
    drain();
    assertThat(seen)
        .containsExactly(
            new Seen(1, 1, new CompletionFailure(Status.EXECUTION, "page fault", 0, 0)),
            new Seen(
                2,
                1,
                new CompletionFailure(
                    Status.DEPENDENCY, "waited for value 1 of queue 1: page fault", 1, 1)));
  }

  @Test
  void aLostSignalIsMadeUpForByTheNext() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    fill(queue, 1, buffer, 1);
    fill(queue, 2, buffer, 2);
    script.loseSignal(1);
    script.run(1);
    assertThat(first(buffer)).isEqualTo((byte) 1);
    assertThat(driver.completedValue(queue)).isZero();
    assertThat(script.inFlight(1)).isEqualTo(2);
    assertThat(drain()).isZero();
    script.run(1);
    assertThat(driver.completedValue(queue)).isEqualTo(2);
    assertThat(script.inFlight(1)).isZero();
    assertThat(drain()).isEqualTo(1);
  }

  @Test
  void aLostCompletionShowsItsValue() {
    long queue = queue(1);
    fill(queue, 1, driver.createBuffer(8), 1);
    script.loseCompletion(1);
    script.runAll();
    assertThat(driver.completedValue(queue)).isEqualTo(1);
    assertThat(drain()).isZero();
  }

  @Test
  void completionsCanBeHeldBack() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    for (long value = 1; value <= 3; value++) {
      fill(queue, value, buffer, 1);
    }
    script.holdCompletions();
    script.runAll();
    assertThat(drain()).isZero();
    script.allowCompletions(1);
    assertThat(drain()).isEqualTo(1);
    assertThat(drain()).isZero();
    script.releaseCompletions();
    assertThat(drain()).isEqualTo(2);
  }

  @Test
  void refusalsStrikeTheCallThatWasNamed() {
    script.refuse("createBuffer", 2, Status.OUT_OF_MEMORY);
    driver.createBuffer(8);
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.createBuffer(8))
        .satisfies(e -> assertThat(e.status()).isEqualTo(Status.OUT_OF_MEMORY));
    driver.createBuffer(8);
    assertThat(script.buffers()).isEqualTo(2);
  }

  @Test
  void endedMemoryShowsItsPattern() {
    long buffer = driver.createBuffer(8);
    ByteBuffer view = driver.contents(buffer, 0, 8);
    view.put(3, (byte) 1);
    driver.destroyBuffer(buffer);
    assertThat(view.get(3)).isEqualTo(ScriptedBuffer.ENDED);
  }

  @Test
  void endingABufferInUseIsRecorded() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    fill(queue, 1, buffer, 1);
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.destroyBuffer(buffer))
        .satisfies(e -> assertThat(e.status()).isEqualTo(Status.INVALID_STATE));
    assertThat(script.violations())
        .extracting(Violation::rule)
        .containsExactly(Rule.DESTROYED_IN_USE);
    script.runAll();
    driver.destroyBuffer(buffer);
    assertThat(script.violations()).hasSize(1);
  }

  @Test
  void usingAHandleAfterItsEndIsRecorded() {
    long queue = queue(1);
    long buffer = driver.createBuffer(8);
    driver.destroyBuffer(buffer);
    driver.begin(queue, 1);
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.encodeFill(queue, 1, buffer, 0, 8, (byte) 1));
    assertThatExceptionOfType(DriverException.class).isThrownBy(() -> driver.destroyBuffer(buffer));
    assertThat(script.violations())
        .extracting(Violation::rule)
        .containsExactly(Rule.USED_AFTER_END, Rule.USED_AFTER_END);
  }

  @Test
  void twoThreadsInsideOneQueueAreRecorded() throws Exception {
    long queue = queue(1);
    Halt halt = script.halt("begin");
    Thread other = Thread.startVirtualThread(() -> driver.begin(queue, 1));
    halt.awaitReached();
    assertThatExceptionOfType(DriverException.class).isThrownBy(() -> driver.commit(queue, 1, 0));
    halt.end();
    other.join();
    assertThat(script.violations())
        .extracting(Violation::rule)
        .containsExactly(Rule.NOT_SERIALISED);
  }

  @Test
  void aVirtualThreadThatWouldBlockIsRecorded() throws Exception {
    long queue = queue(1);
    fill(queue, 1, driver.createBuffer(8), 1);
    Thread.ofVirtual().start(() -> driver.destroyQueue(queue)).join();
    assertThat(script.violations())
        .extracting(Violation::rule)
        .containsExactly(Rule.VIRTUAL_THREAD_BLOCKED);
  }

  @Test
  void theClockIsTheTests() {
    AtomicLong clock = new AtomicLong(100);
    Script timed = Script.manualBuilder().clock(() -> clock.getAndAdd(10)).build();
    Driver on = timed.driver();
    long queue = on.createQueue(1, "", 8);
    long buffer = on.createBuffer(8);
    on.begin(queue, 1);
    on.encodeFill(queue, 1, buffer, 0, 8, (byte) 1);
    on.commit(queue, 1, 0);
    timed.runAll();
    List<Long> times = new ArrayList<>();
    on.nextCompletions(
        (id, value, start, end, failure) -> {
          times.add(start);
          times.add(end);
        },
        0);
    assertThat(times).containsExactly(100L, 110L);
  }

  @Test
  void closingFinishesTheWorkAndAbandonsOnlyWhatCanNeverRun() {
    long a = queue(1);
    long b = queue(2);
    long buffer = driver.createBuffer(8);
    ByteBuffer view = driver.contents(buffer, 0, 8);
    fill(a, 1, buffer, 1);
    driver.begin(b, 1);
    driver.encodeWait(b, 1, a, 1);
    driver.commit(b, 1, 0);
    script.loseSignal(1);
    driver.close();
    assertThat(view.get(0)).isEqualTo((byte) 1);
    assertThat(script.completed(2)).isEqualTo(1);
    assertThat(driver.failedValue(b)).isEqualTo(1);
    driver.destroyBuffer(buffer);
    assertThatExceptionOfType(DriverException.class).isThrownBy(() -> driver.createBuffer(8));
    assertThatExceptionOfType(DriverException.class).isThrownBy(() -> driver.begin(b, 2));
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.nextCompletions((q, v, s, e, f) -> {}, 0));
  }

  @Test
  void immediateRunsInTheCommit() {
    Script immediate = Script.immediate();
    Driver on = immediate.driver();
    long queue = on.createQueue(1, "", 8);
    on.begin(queue, 1);
    on.commit(queue, 1, 0);
    assertThat(on.completedValue(queue)).isEqualTo(1);
    immediate.hold(1);
    on.begin(queue, 2);
    on.commit(queue, 2, 0);
    on.begin(queue, 3);
    on.commit(queue, 3, 0);
    assertThat(on.completedValue(queue)).isEqualTo(1);
    immediate.allow(1, 1);
    assertThat(on.completedValue(queue)).isEqualTo(2);
    immediate.release(1);
    assertThat(on.completedValue(queue)).isEqualTo(3);
  }

  @Test
  void theProviderGivesTheDeviceOnceAndKeepsTheOptions() {
    DriverOptions options = new DriverOptions("auto", "", 3, "auto");
    assertThat(script.provider().open(options)).isSameAs(driver);
    assertThat(script.options()).isEqualTo(options);
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> script.provider().open(options));
  }
}
