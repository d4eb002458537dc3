package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The timeline alone, on a driver that the test runs by hand. */
@Timeout(30)
class TimelineTest {
  private static final long FOREVER = -1;

  private final Script script = Script.manual();
  private final Driver driver = script.driver();
  private final long queue = driver.createQueue(1, "", 64);
  private final Timeline timeline = timeline(TimeUnit.SECONDS.toNanos(25));

  private Timeline timeline(long watchdogNanos) {
    return new Timeline(driver, queue, "stream 3", 3, watchdogNanos, new Polling(1000));
  }

  private long submit() {
    long value = timeline.submitted() + 1;
    driver.begin(queue, value);
    driver.commit(queue, value, 0);
    timeline.submitted(value);
    return value;
  }

  private int drain() {
    return driver.nextCompletions(
        (id, value, start, end, failure) ->
            timeline.complete(
                value,
                new Timeline.GpuTimes(start, end),
                failure == null
                    ? null
                    : timeline.failure(value, failure.status(), failure.message(), null)),
        0);
  }

  /** What a stream does, once the value is submitted. */
  private static void await(Timeline timeline, long value, long timeoutNanos) {
    timeline.awaitReached(value, timeoutNanos);
    timeline.throwIfFailed(value);
  }

  @Test
  void beginsDone() {
    assertThat(timeline.submitted()).isZero();
    assertThat(timeline.completed()).isZero();
    assertThat(timeline.reached(0)).isTrue();
    assertThat(timeline.reached(1)).isFalse();
    await(timeline, 0, 0);
  }

  @Test
  void seesTheDeviceWithoutTheCompletionThread() {
    submit();
    submit();
    assertThat(timeline.reached(1)).isFalse();
    script.run(1);
    assertThat(timeline.reached(1)).isTrue();
    assertThat(timeline.reached(2)).isFalse();
    await(timeline, 1, 0);
    assertThat(timeline.completed()).isEqualTo(1);
  }

  @Test
  void doesNotPassAFailureThatItDoesNotKnowYet() {
    submit();
    submit();
    script.run(1);
    script.fail(1, Status.EXECUTION, "page fault");
    script.run(1);
    assertThat(driver.completedValue(queue)).isEqualTo(2);
    assertThat(timeline.reached(2)).as("the failure has not been told").isFalse();
    drain();
    assertThat(timeline.reached(2)).isTrue();
    await(timeline, 1, 0);
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> await(timeline, 2, 0))
        .withMessageContaining("stream 3")
        .withMessageContaining("page fault");
  }

  @Test
  void neverGoesBack() {
    submit();
    submit();
    script.runAll();
    assertThat(timeline.reached(2)).isTrue();
    drain(); // tells 1, then 2
    assertThat(timeline.completed()).isEqualTo(2);
    assertThat(timeline.reached(1)).isTrue();
  }

  @Test
  void wakesEveryWaiterOfAValue() throws Exception {
    long value = submit();
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      waiters.add(Background.run(() -> await(timeline, value, FOREVER)).untilParked());
      waiters.add(Background.runVirtually(() -> await(timeline, value, FOREVER)).untilParked());
    }
    assertThat(waiters).noneMatch(Background::over);
    script.run(1);
    drain();
    for (Background<Boolean> waiter : waiters) {
      waiter.get();
    }
  }

  @Test
  void wakesNobodyEarly() throws Exception {
    long first = submit();
    long second = submit();
    Background<Boolean> early = Background.run(() -> await(timeline, first, FOREVER)).untilParked();
    Background<Boolean> late = Background.run(() -> await(timeline, second, FOREVER)).untilParked();
    script.run(1);
    drain();
    early.get();
    assertThat(late.untilParked().over()).isFalse();
    script.run(1);
    drain();
    late.get();
  }

  @Test
  void losesNoWakeUpBetweenLookingAndWaiting() throws Exception {
    for (int round = 0; round < 300; round++) {
      long value = submit();
      Background<Boolean> waiter = Background.run(() -> await(timeline, value, FOREVER));
      script.run(1);
      drain();
      waiter.get();
    }
  }

  @Test
  void waitsInTheDriverWhereItCan() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Timeline on =
        new Timeline(
            waiting.driver(), handle, "stream 0", 0, TimeUnit.SECONDS.toNanos(25), new Polling(0));
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter = Background.run(() -> await(on, 1, FOREVER)).untilParked();
    waiting.run(1);
    waiter.get(); // without any completion thread
    assertThat(waiting.violations()).isEmpty();
  }

  /** In slices, so that it hears interrupts; but it does not park in between. */
  @Test
  void waitsInTheDriverForAsLongAsItTakes() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Timeline on = new Timeline(waiting.driver(), handle, "stream 0", 0, HOURS, new Polling(0));
    CountDownLatch slices = new CountDownLatch(3);
    waiting.intercept("awaitValue", slices::countDown);
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter = Background.run(() -> await(on, 1, FOREVER));
    slices.await();
    waiting.run(1);
    waiter.get(); // without any completion thread
    assertThat(waiting.violations()).isEmpty();
  }

  @Test
  void whoWaitsInTheDriverWakesWhoIsParked() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Timeline on =
        new Timeline(
            waiting.driver(), handle, "stream 0", 0, TimeUnit.SECONDS.toNanos(25), new Polling(0));
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, Driver.COMMIT_WAITING);
    on.submitted(1);
    Background<Boolean> parked = Background.runVirtually(() -> await(on, 1, FOREVER)).untilParked();
    List<String> ran = new CopyOnWriteArrayList<>();
    on.whenReached(1, () -> ran.add("action"));
    Background<Boolean> natively = Background.run(() -> await(on, 1, FOREVER)).untilParked();
    waiting.run(1);
    natively.get();
    parked.get(); // without any completion thread: it may hear of this milliseconds later
    assertThat(ran).containsExactly("action");
  }

  @Test
  void pollsAsLongAsThatPays() {
    Polling polling = new Polling(3200);
    assertThat(polling.nanos()).isEqualTo(3200);
    polling.waited(400);
    assertThat(polling.nanos()).as("twice the last wait").isEqualTo(800);
    polling.waited(3000);
    assertThat(polling.nanos()).as("but never beyond the limit").isEqualTo(3200);
    polling.waited(1_000_000);
    assertThat(polling.nanos()).isEqualTo(1600);
    for (int i = 0; i < 20; i++) {
      polling.waited(1_000_000);
    }
    assertThat(polling.nanos()).as("a quick look stays").isEqualTo(100);
    polling.waited(50);
    assertThat(polling.nanos()).as("it blocked, but it was short").isEqualTo(100);
    polling.waited(3200);
    assertThat(polling.nanos()).as("just as long as allowed").isEqualTo(3200);
    polling.waited(1000);
    assertThat(polling.nanos()).isEqualTo(2000);
    Polling never = new Polling(0);
    never.waited(0);
    assertThat(never.nanos()).isZero();
  }

  /** Where a wait polls for hours unless it sees the value. */
  private static final long HOURS = TimeUnit.HOURS.toNanos(2);

  @Test
  void aWaitThatPollsSeesTheValueAtOnceAndAsksForNoMore() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Polling polling = new Polling(HOURS);
    Timeline on = new Timeline(waiting.driver(), handle, "stream 0", 0, HOURS, polling);
    List<String> calls = new CopyOnWriteArrayList<>();
    waiting.intercept("awaitValue", () -> calls.add("awaitValue"));
    CountDownLatch looks = new CountDownLatch(3);
    waiting.intercept("completedValue", looks::countDown);
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter = Background.run(() -> await(on, 1, FOREVER));
    looks.await();
    waiting.run(1);
    waiter.get(); // without any completion thread
    assertThat(calls).as("native waits").isEmpty();
    assertThat(polling.nanos()).as("twice the time it took").isLessThan(HOURS / 2);
  }

  @Test
  void aWaitThatBlocksIsMeasuredToo() throws Exception {
    Polling polling = new Polling(1000);
    Timeline on = new Timeline(driver, queue, "stream 3", 3, HOURS, polling);
    driver.begin(queue, 1);
    driver.commit(queue, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter = Background.run(() -> await(on, 1, FOREVER)).untilParked();
    script.run(1);
    on.complete(1, Timeline.GpuTimes.UNASKED, null);
    waiter.get();
    assertThat(polling.nanos()).as("longer than allowed: half").isEqualTo(500);
  }

  @Test
  void doesNotPollWhereWaitingDoesTheWork() throws Exception {
    Script helped = Script.waitedFor();
    long handle = helped.driver().createQueue(1, "", 64);
    Timeline on = new Timeline(helped.driver(), handle, "stream 0", 0, HOURS, new Polling(HOURS));
    helped.driver().begin(handle, 1);
    helped.driver().commit(handle, 1, 0);
    on.submitted(1);
    await(on, 1, FOREVER);
    assertThat(helped.completed(1)).isEqualTo(1);
    helped.driver().begin(handle, 2);
    helped.driver().commit(handle, 2, 0);
    on.submitted(2);
    Background<Boolean> virtual = Background.runVirtually(() -> await(on, 2, FOREVER));
    on.awaitReached(2, FOREVER); // the virtual one polls, and does no work
    virtual.get();
    assertThat(helped.violations()).isEmpty();
  }

  @Test
  void endsAWaitAfterItsTime() {
    long value = submit();
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> await(timeline, value, 0))
        .withMessageContaining("stream 3");
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> await(timeline, value, 1000))
        .withMessageContaining("did not reach 1");
    script.run(1);
    await(timeline, value, 0);
  }

  @Test
  void endsAWaitWithoutProgress() {
    Timeline watched = timeline(TimeUnit.MILLISECONDS.toNanos(1));
    driver.begin(queue, 1);
    driver.commit(queue, 1, 0);
    watched.submitted(1);
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> await(watched, 1, FOREVER))
        .withMessageContaining("wait.watchdog.ms")
        .withMessageContaining("submitted 1, completed 0");
  }

  @Test
  void hearsAnInterruptAndKeepsTheFlag() throws Exception {
    long value = submit();
    for (boolean virtual : new boolean[] {false, true}) {
      Background.Work wait =
          () -> {
            assertThatExceptionOfType(WaitInterruptedException.class)
                .isThrownBy(() -> await(timeline, value, FOREVER));
            assertThat(Thread.currentThread().isInterrupted()).isTrue();
          };
      Background<Boolean> waiter = virtual ? Background.runVirtually(wait) : Background.run(wait);
      waiter.untilParked().thread().interrupt();
      waiter.get();
    }
    script.run(1);
    drain();
    assertThat(timeline.completed()).isEqualTo(1);
  }

  @Test
  void hearsAnInterruptInTheDriver() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Timeline on =
        new Timeline(
            waiting.driver(), handle, "stream 0", 0, TimeUnit.SECONDS.toNanos(25), new Polling(0));
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter =
        Background.run(
                () -> {
                  assertThatExceptionOfType(WaitInterruptedException.class)
                      .isThrownBy(() -> await(on, 1, FOREVER));
                  assertThat(Thread.currentThread().isInterrupted()).isTrue();
                })
            .untilParked();
    waiter.thread().interrupt();
    waiter.get();
  }

  @Test
  void runsActionsOnceWhenTheirValueIsReached() {
    List<Long> ran = new ArrayList<>();
    submit();
    submit();
    timeline.whenReached(2, () -> ran.add(2L));
    timeline.whenReached(1, () -> ran.add(1L));
    assertThat(ran).isEmpty();
    script.run(1);
    drain();
    assertThat(ran).containsExactly(1L);
    script.run(1);
    drain();
    assertThat(ran).containsExactly(1L, 2L);
    timeline.whenReached(1, () -> ran.add(10L));
    assertThat(ran).containsExactly(1L, 2L, 10L);
  }

  @Test
  void endsEveryWaitWhenItEnds() throws Exception {
    long value = submit();
    List<String> ran = new ArrayList<>();
    timeline.whenReached(value, () -> ran.add("action"));
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceClosedException.class)
                        .isThrownBy(() -> await(timeline, value, FOREVER)))
            .untilParked();
    timeline.end(new DeviceClosedException("the end"));
    waiter.get();
    assertThat(ran).containsExactly("action");
    assertThatExceptionOfType(DeviceClosedException.class)
        .isThrownBy(() -> await(timeline, value, 0));
    await(timeline, 0, 0);
  }

  @Test
  void failuresCoverWhatCameAfterThemUntilTheReset() {
    submit();
    submit();
    script.run(1);
    script.fail(1, Status.EXECUTION, "first");
    script.run(1);
    submit();
    script.run(1);
    drain();
    assertThat(timeline.failureAt(1)).isNull();
    assertThat(timeline.failureAt(2)).isNotNull();
    assertThat(timeline.failureAt(3)).isSameAs(timeline.failureAt(2));
    assertThat(timeline.current()).isSameAs(timeline.failureAt(2));
    driver.resetQueue(queue);
    timeline.reset();
    assertThat(timeline.current()).isNull();
    assertThat(timeline.failureAt(3)).as("late waiters still learn it").isNotNull();
    submit();
    script.runAll();
    drain();
    await(timeline, 4, 0);
    assertThat(timeline.failureAt(4)).isNull();
    script.fail(1, Status.EXECUTION, "second");
    submit();
    script.runAll();
    drain();
    assertThat(timeline.failureAt(5)).isNotNull().hasMessageContaining("second");
    assertThat(timeline.failureAt(3)).isNotNull().hasMessageContaining("first");
  }

  @Test
  void everyWaiterGetsTheFailureWithAStackOfItsOwn() throws Exception {
    long value = submit();
    Background.Work wait =
        () ->
            assertThatExceptionOfType(StreamFailedException.class)
                .isThrownBy(() -> await(timeline, value, FOREVER))
                .satisfies(
                    failure -> {
                      assertThat(failure.status()).isEqualTo(Status.EXECUTION);
                      assertThat(failure.value()).isEqualTo(1);
                      assertThat(failure.streamIndex()).isEqualTo(3);
                      assertThat(failure.getCause()).isSameAs(timeline.failureAt(1));
                    });
    Background<Boolean> one = Background.run(wait).untilParked();
    Background<Boolean> two = Background.runVirtually(wait).untilParked();
    script.fail(1, Status.EXECUTION, "page fault");
    script.run(1);
    drain();
    one.get();
    two.get();
  }

  @Test
  void givesTheQueueBackOnceNobodyLooks() {
    submit();
    script.runAll();
    drain();
    timeline.end(new DeviceClosedException("the end"));
    timeline.destroyQueue();
    timeline.destroyQueue();
    assertThat(script.queues()).isEmpty();
    assertThat(timeline.reached(1)).isTrue();
    assertThat(timeline.reached(2)).isFalse();
    assertThat(timeline.drained(0)).isTrue();
    assertThat(script.violations()).isEmpty();
  }

  @Test
  void theQueueOutlivesWhoHoldsIt() {
    assertThat(timeline.holdQueue()).isTrue();
    timeline.destroyQueue();
    assertThat(script.queues()).containsExactly(1L);
    assertThat(timeline.holdQueue()).as("by anybody else").isFalse();
    timeline.releaseQueue();
    assertThat(script.queues()).isEmpty();
  }

  @Test
  void theQueueOutlivesWhoWaitsForItInTheDriver() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    long handle = waiting.driver().createQueue(1, "", 64);
    Timeline on = new Timeline(waiting.driver(), handle, "stream 0", 0, HOURS, new Polling(0));
    Halt halt = waiting.halt("awaitValue");
    waiting.driver().begin(handle, 1);
    waiting.driver().commit(handle, 1, 0);
    on.submitted(1);
    Background<Boolean> waiter = Background.run(() -> on.awaitReached(1, FOREVER));
    halt.awaitReached();
    waiting.run(1);
    on.end(new DeviceClosedException("the end"));
    on.destroyQueue();
    assertThat(waiting.queues()).as("somebody is in a call on it").hasSize(1);
    halt.end();
    try {
      waiter.get();
    } catch (DeviceClosedException e) {
      // The queue went before it could look.
    }
    assertThat(waiting.queues()).isEmpty();
    assertThat(waiting.violations()).isEmpty();
  }

  @Test
  void drainsDeafToInterruptsAndToFailures() throws Exception {
    submit();
    assertThat(timeline.drained(0)).isFalse();
    assertThat(timeline.drained(1000)).isFalse();
    Background<Boolean> closer =
        Background.run(
            () -> {
              Thread.currentThread().interrupt();
              assertThat(timeline.drained(HOURS)).isTrue();
              assertThat(Thread.currentThread().isInterrupted()).as("kept for later").isTrue();
            });
    closer.untilParked();
    script.fail(1, Status.EXECUTION, "nobody is told");
    script.run(1);
    closer.get();
    Background.run(
            () -> {
              assertThat(timeline.drained(HOURS)).isTrue();
              assertThat(Thread.currentThread().isInterrupted()).as("none came").isFalse();
            })
        .get();
  }

  @Test
  void remembersEveryFailureButTheCausesOfTheLastAlone() {
    int failures = 20;
    for (int i = 1; i <= failures; i++) {
      script.fail(1, Status.EXECUTION, "cause " + i + ".");
      submit();
      script.runAll();
      drain();
      driver.resetQueue(queue);
      timeline.reset();
    }
    for (int i = 1; i <= failures; i++) {
      assertThat(timeline.failureAt(i))
          .as("failure at %d", i)
          .isNotNull()
          .hasMessageContaining(i > failures - 16 ? "cause " + i + "." : "forgotten");
      assertThat(timeline.settled(i)).isTrue();
    }
    assertThat(timeline.failureAt(failures + 1)).isNull();
    assertThat(timeline.settled(failures + 1)).isFalse();
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void whoAsksForTimesIsToldOfTheEnd(boolean before) {
    List<MetalStreamsException> told = new ArrayList<>();
    Timeline.TimedEvent event =
        new Timeline.TimedEvent() {
          @Override
          public void times(Timeline.GpuTimes times) {
            throw new AssertionError("there are none");
          }

          @Override
          public void none(MetalStreamsException why) {
            told.add(why);
          }
        };
    if (before) {
      timeline.time(1, event);
      assertThat(told).isEmpty();
    }
    timeline.end(new DeviceClosedException("the end"));
    if (!before) {
      timeline.time(1, event);
    }
    assertThat(told).hasOnlyElementsOfType(DeviceClosedException.class).hasSize(1);
    assertThat(timeline.timed()).isFalse();
  }

  @Test
  void showsBothNumbers() {
    submit();
    submit();
    script.run(1);
    drain();
    assertThat(timeline).hasToString("stream 3[submitted 2, completed 1]");
  }
}
