package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Events that the CPU completes. Nothing runs on the device unless the test says so. */
class HostEventTest extends CoreTest {
  private static final Duration PATIENCE = Duration.ofSeconds(20);
  private static final long FIRST_HOST_QUEUE = 1L << 32;

  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream a = device.streams().stream(1);
  private final DeviceStream b = device.streams().stream(2);
  private final DeviceBuffer x = device.allocate(8, a);
  private final DeviceBuffer y = device.allocate(8, b);

  private static final class Planned extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Planned(String message) {
      super(message);
    }
  }

  /** Work behind the event, submitted. */
  private static void submitBehind(
      DeviceStream stream, DeviceEvent event, DeviceBuffer buffer, int value) {
    stream.waitFor(event);
    stream.fill(buffer, (byte) value);
    stream.flush();
  }

  private List<Long> hostQueues(Script of) {
    return of.queues().stream().filter(id -> id > FIRST_HOST_QUEUE).toList();
  }

  /** The test drains and ticks. */
  private Device withoutCompletionThread(Script of) {
    Parts parts =
        new Parts() {
          @Override
          boolean completionThread() {
            return false;
          }
        };
    return open(of, builder -> builder.parts(parts));
  }

  /** Says when its close has ended the promises that it found. */
  private Device whoseCloseIsSeen(Script of, CountDownLatch closed) {
    Parts parts =
        new Parts() {
          @Override
          HostEvents hostEvents(Device device) {
            return new HostEvents(device) {
              @Override
              void close(DeviceClosedException over) {
                super.close(over);
                closed.countDown();
              }
            };
          }
        };
    return open(of, builder -> builder.parts(parts));
  }

  private static RuntimeException refusal() {
    return new DriverException(Status.OUT_OF_MEMORY, "planned");
  }

  // ---- signals

  @Test
  void holdWorkBackUntilTheSignal() {
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 5);
    assertThat(script.runnable()).isEmpty();
    assertThat(event.query()).isFalse();
    event.signal();
    assertThat(event.query()).isTrue();
    assertThat(script.runnable()).containsExactly(a.id());
    script.runAll();
    assertThat(peek(x)).isEqualTo((byte) 5);
    a.synchronize();
  }

  @Test
  void costNothingOnceTheyAreSignalled() {
    HostEvent event = device.hostEvent();
    event.signal();
    a.waitFor(event);
    assertThat(script.open(a.id())).as("nothing to wait for").isFalse();
    event.await();
    assertThat(event.toFuture()).succeedsWithin(PATIENCE);
  }

  @Test
  void holdBackOnlyWhatIsEncodedAfterTheWait() {
    a.fill(x, (byte) 1);
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 2);
    script.runAll();
    assertThat(peek(x)).isEqualTo((byte) 1);
    event.signal();
    script.runAll();
    assertThat(peek(x)).isEqualTo((byte) 2);
  }

  @Test
  void letGoOfEveryStreamAndEveryThread() throws Exception {
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 1);
    submitBehind(b, event, y, 2);
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      waiters.add(Background.run(event::await).untilParked());
      waiters.add(Background.runVirtually(event::await).untilParked());
      waiters.add(Background.run(() -> event.await(PATIENCE)).untilParked());
    }
    CompletableFuture<?> future = event.toFuture();
    assertThat(waiters).noneMatch(Background::over);
    assertThat(future).isNotDone();
    Background.runVirtually(event::signal).get(PATIENCE);
    for (Background<Boolean> waiter : waiters) {
      waiter.get(PATIENCE);
    }
    assertThat(future).succeedsWithin(PATIENCE);
    script.runAll();
    assertThat(List.of(peek(x), peek(y))).containsExactly((byte) 1, (byte) 2);
  }

  @Test
  void wakeWhoWaitsForThemByThemselves() throws Exception {
    HostEvent event = withoutCompletionThread(Script.manual()).hostEvent();
    Background<Boolean> waiter = Background.run(event::await).untilParked();
    event.signal();
    waiter.get(PATIENCE);
  }

  @Test
  void areSignalledOnce() {
    HostEvent event = device.hostEvent();
    event.signal();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(event::signal)
        .withMessageContaining("event 1 of host queue 1")
        .withMessageContaining("before");
    assertThat(event.fail(new Planned("too late"))).isFalse();
    event.await();
    assertThat(a.failure()).isEmpty();
  }

  @Test
  @Tag("load")
  void areOneSignalWhateverTheNumberOfThreads() throws Exception {
    for (int round = 0; round < 200; round++) {
      HostEvent event = device.hostEvent();
      List<Background<Boolean>> signallers = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        signallers.add(
            Background.call(
                () -> {
                  try {
                    event.signal();
                    return true;
                  } catch (IllegalStateException e) {
                    return false;
                  }
                }));
      }
      int signalled = 0;
      for (Background<Boolean> each : signallers) {
        signalled += each.get(PATIENCE) ? 1 : 0;
      }
      assertThat(signalled).isEqualTo(1);
      event.await();
    }
  }

  @Test
  void staySignallableWhenTheDriverRefuses() {
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 1);
    script.refuse("signal", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(event::signal)
        .withMessageContaining("signalling event 1");
    assertThat(event.query()).isFalse();
    script.refuse("signal", 1, Status.INTERNAL);
    assertThatExceptionOfType(MetalStreamsException.class)
        .isThrownBy(() -> event.fail(new Planned("no")));
    assertThat(script.runnable()).isEmpty();
    event.signal();
    script.runAll();
    assertThat(peek(x)).isEqualTo((byte) 1);
    assertThat(a.failure()).isEmpty();
    script.refuse("createHostQueue", 1, Status.OUT_OF_MEMORY);
    HostEvent kept = device.hostEvent(); // of the queue that is there
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(device::hostEvent);
    kept.signal();
  }

  @Test
  void areOnNoStreamAndHaveNoTime() {
    HostEvent event = device.hostEvent();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(event::stream)
        .withMessageContaining("event 1 of host queue 1");
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> DeviceEvent.elapsed(event, a.recordTimed()))
        .withMessageContaining("recordTimed");
    event.signal();
  }

  // ---- failures

  @Test
  void carryTheirCauseToAllWhoWait() throws Exception {
    write(x, 1);
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 5);
    b.waitFor(a.record());
    b.fill(y, (byte) 6);
    b.flush();
    CompletableFuture<?> future = event.toFuture();
    Background.Work wait =
        () -> {
          StreamFailedException failure =
              catchThrowableOfType(StreamFailedException.class, event::await);
          assertThat(failure).hasRootCauseInstanceOf(Planned.class);
          assertThat(failure.streamIndex()).isEqualTo(-1);
          assertThat(failure.status()).isEqualTo(Status.EXECUTION);
        };
    List<Background<Boolean>> waiters =
        List.of(Background.run(wait).untilParked(), Background.runVirtually(wait).untilParked());
    Planned cause = new Planned("the disk is full");
    assertThat(event.fail(cause)).isTrue();
    script.runAll();
    for (Background<Boolean> waiter : waiters) {
      waiter.get(PATIENCE);
    }
    for (DeviceStream stream : List.of(a, b)) {
      StreamFailedException failure =
          catchThrowableOfType(StreamFailedException.class, stream::synchronize);
      assertThat(failure.status()).isEqualTo(Status.DEPENDENCY);
      assertThat(failure.streamIndex()).isEqualTo(stream.index());
      assertThat(failure).hasRootCause(cause);
      assertThat(failure).hasStackTraceContaining("host queue 1 failed at 1");
    }
    assertThatExceptionOfType(ExecutionException.class)
        .isThrownBy(future::get)
        .havingRootCause()
        .isSameAs(cause);
    assertThat(peek(x)).as("work behind the event").isEqualTo((byte) 1);
    assertThat(event.query()).isTrue();
    assertThat(event.fail(new Planned("again"))).isFalse();
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(event::signal);
    DeviceStream late = device.streams().stream(3);
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> late.waitFor(event))
        .havingRootCause()
        .isSameAs(cause);
    assertThat(late.failure()).as("it has learned in time").isEmpty();
  }

  @Test
  void strikeNoOtherEvent() {
    HostEvent bad = device.hostEvent();
    HostEvent good = device.hostEvent();
    bad.fail(new Planned("no"));
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(bad::await);
    HostEvent next = device.hostEvent();
    submitBehind(a, good, x, 1);
    submitBehind(b, next, y, 2);
    good.signal();
    next.signal();
    script.runAll();
    a.synchronize();
    b.synchronize();
    assertThat(List.of(peek(x), peek(y))).containsExactly((byte) 1, (byte) 2);
  }

  @Test
  void strikeAStreamWhoseWaitIsEncodedAnew() {
    HostEvent event = device.hostEvent();
    a.fill(y, (byte) 1);
    a.flush(); // under way, so that what follows is not committed by itself
    a.waitFor(event);
    a.fill(x, (byte) 1);
    event.fail(new Planned("no"));
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(event::await);
    assertThat(a.cancel()).isEqualTo(1); // the wait stays
    script.runAll();
    while (a.failure().isEmpty()) { // the completion thread is about to tell
      Thread.onSpinWait();
    }
    assertThat(a.failure().get()).hasRootCauseInstanceOf(Planned.class);
    assertThat(hostQueues(script)).as("failed queues are given back").isEmpty();
  }

  @Test
  void areKnownAsCausesForAWhile() {
    Script other = Script.manual();
    Device alone = withoutCompletionThread(other);
    for (int i = 1; i <= 65; i++) {
      alone.hostEvent().fail(new Planned("no"));
      assertThat(hostQueues(other)).containsExactly(FIRST_HOST_QUEUE + i);
      alone.completions().drain(0);
      assertThat(hostQueues(other)).isEmpty();
      assertThat(alone.timeline(FIRST_HOST_QUEUE + 1) != null)
          .as("the first, after %d", i)
          .isEqualTo(i <= 64);
    }
    assertThat(alone.timeline(FIRST_HOST_QUEUE + 2)).isNotNull();
  }

  @Test
  void whoseQueueTheDriverKeepsAreAnErrorInTheLog() {
    Script other = Script.manual();
    Device alone = withoutCompletionThread(other);
    alone.hostEvent().fail(new Planned("no"));
    other.refuse("destroyQueue", 1, Status.INTERNAL);
    alone.completions().drain(0);
    assertThat(takeComplaints())
        .singleElement()
        .asString()
        .contains("the driver kept host queue 1");
    forget(alone); // the queue goes with the driver
    alone.close();
    assertThat(other.closed()).isTrue();
  }

  // ---- nobody signals

  @Test
  void endInTheWatchdogIfNobodySignals() {
    Script other = Script.manual();
    Device watched = open(other, builder -> builder.watchdog(Duration.ofMillis(1)));
    HostEvent event = watched.hostEvent();
    DeviceStream stream = watched.streams().stream(1);
    stream.waitFor(event);
    stream.flush();
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(stream::synchronize)
        .withMessageContaining("stream 1 did not reach 1")
        .withMessageContaining("waits for event 1 of host queue 1, which nobody has signalled");
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(event::await)
        .withMessageContaining("host queue 1 did not reach 1")
        .withMessageContaining("nobody has signalled it");
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> event.await(Duration.ZERO));
    event.signal();
    event.await();
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(stream::synchronize)
        .satisfies(late -> assertThat(late.getMessage()).doesNotContain("host queue"));
  }

  @Test
  void areNamedToThoseBehindThem() {
    HostEvent first = device.hostEvent();
    HostEvent second = device.hostEvent();
    submitBehind(a, first, x, 1);
    submitBehind(a, second, x, 2);
    Timeline timeline = a.timeline();
    assertThat(timeline.obstacle(0)).isEmpty();
    assertThat(timeline.obstacle(1)).contains("event 1 of host queue 1");
    assertThat(timeline.obstacle(2)).contains("event 1 of host queue 1");
    first.signal();
    assertThat(timeline.obstacle(1)).isEmpty();
    assertThat(timeline.obstacle(2)).contains("event 1 of host queue 2");
    second.signal();
    assertThat(timeline.obstacle(2)).isEmpty();
  }

  @Test
  void failWhenTheDeviceCloses() throws Exception {
    HostEvent event = device.hostEvent();
    HostEvent unused = device.hostEvent();
    submitBehind(a, event, x, 1);
    b.waitFor(event); // not submitted
    DeviceEvent behind = a.record();
    Background<Boolean> onTheEvent =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await))
            .untilParked();
    Background<Boolean> onTheStream =
        Background.run(
                () ->
                    assertThatExceptionOfType(MetalStreamsException.class)
                        .isThrownBy(behind::await)
                        .withStackTraceContaining("the device is closed"))
            .untilParked();
    CompletableFuture<?> future = event.toFuture();
    script.letRun();
    Background.run(device::close).get(PATIENCE);
    onTheEvent.get(PATIENCE);
    onTheStream.get(PATIENCE);
    assertThatExceptionOfType(ExecutionException.class)
        .isThrownBy(future::get)
        .withCauseInstanceOf(DeviceClosedException.class);
    for (HostEvent each : List.of(event, unused)) {
      assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(each::signal);
      assertThat(each.fail(new Planned("late"))).isFalse();
      assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(each::await);
    }
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(device::hostEvent);
  }

  @Test
  void areNoReasonToWaitForACloseWhoseSignalsAreRefused() throws Exception {
    HostEvent event = device.hostEvent();
    submitBehind(a, event, x, 1);
    CountDownLatch refused = new CountDownLatch(3);
    script.intercept(
        "signal",
        () -> {
          if (refused.getCount() > 0) {
            refused.countDown();
            throw refusal();
          }
        });
    Background<Boolean> closer = Background.run(device::close);
    refused.await();
    script.letRun();
    closer.get(PATIENCE);
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await);
  }

  @Test
  void endWithTheDeviceAlsoIfNoSignalIsTaken() throws Exception {
    HostEvent event = device.hostEvent();
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await))
            .untilParked();
    script.intercept(
        "signal",
        () -> {
          throw refusal();
        });
    device.close();
    waiter.get(PATIENCE);
    assertThat(takeComplaints())
        .singleElement()
        .asString()
        .contains("the driver does not signal event 1 of host queue 1");
  }

  @Test
  void endWithTheDeviceThatClosesWhileTheDriverRefusesThem() throws Exception {
    Script other = Script.manual();
    CountDownLatch closed = new CountDownLatch(1);
    Device closing = whoseCloseIsSeen(other, closed);
    HostEvent event = closing.hostEvent();
    DeviceStream stream = closing.streams().stream(1);
    stream.waitFor(event);
    stream.flush();
    AtomicBoolean first = new AtomicBoolean(true);
    CountDownLatch underWay = new CountDownLatch(1);
    other.intercept(
        "signal",
        () -> {
          if (first.getAndSet(false)) {
            underWay.countDown();
            try {
              closed.await();
            } catch (InterruptedException e) {
              throw new AssertionError(e);
            }
            throw refusal();
          }
        });
    Background<Boolean> signaller =
        Background.run(
            () -> assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::signal));
    underWay.await(); // so that the close leaves it to the signaller
    Background<Boolean> closer = Background.run(closing::close);
    signaller.get(PATIENCE);
    other.letRun();
    closer.get(PATIENCE);
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await);
  }

  @Test
  void areNotMadeWhileTheDeviceCloses() throws Exception {
    Script other = Script.manual();
    CountDownLatch closed = new CountDownLatch(1);
    Device closing = whoseCloseIsSeen(other, closed);
    DeviceStream stream = closing.streams().stream(1);
    try (DeviceBuffer buffer = closing.allocate(8, stream)) {
      stream.fill(buffer, (byte) 1);
    }
    stream.flush(); // the close waits for this
    other.holdCompletions(); // else the completion thread might give the queue back, too
    Halt halt = other.halt("createHostQueue");
    AtomicInteger signals = new AtomicInteger();
    other.intercept("signal", signals::incrementAndGet);
    Background<Boolean> maker =
        Background.run(
            () ->
                assertThatExceptionOfType(DeviceClosedException.class)
                    .isThrownBy(closing::hostEvent));
    halt.awaitReached();
    Background<Boolean> closer = Background.run(closing::close);
    closed.await();
    halt.end();
    maker.get(PATIENCE);
    assertThat(signals).as("no promise is left").hasValue(1);
    assertThat(hostQueues(other)).isEmpty();
    other.letRun();
    closer.get(PATIENCE);
  }

  @Test
  void areLostWithTheDevice() throws Exception {
    HostEvent event = device.hostEvent();
    Background<Boolean> waiter =
        Background.run(
                () -> assertThatExceptionOfType(DeviceLostException.class).isThrownBy(event::await))
            .untilParked();
    a.fill(x, (byte) 1);
    a.flush();
    script.fail(a.id(), Status.DEVICE_LOST, "unplugged");
    script.runAll();
    waiter.get(PATIENCE);
    assertThatExceptionOfType(DeviceLostException.class).isThrownBy(device::hostEvent);
  }

  // ---- dropped

  /** Waits on the device for an event that nobody has afterwards. */
  private static void waitForADroppedEvent(DeviceStream stream) {
    HostEvent event = stream.device().hostEvent();
    stream.waitFor(event);
    stream.waitFor(event);
    CompletableFuture<?> pending = event.toFuture();
    assertThat(pending).isNotDone();
  }

  @Test
  void failWhenTheyAreDropped() throws Exception {
    Logger logger = Logger.getLogger("dev.metalstreams");
    List<String> warnings = Collections.synchronizedList(new ArrayList<>());
    Handler listener =
        new Handler() {
          @Override
          public void publish(LogRecord report) {
            if (report.getLevel().equals(Level.WARNING)) {
              warnings.add(report.getMessage());
            }
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        };
    logger.addHandler(listener);
    try {
      waitForADroppedEvent(a);
      HostEvent kept = device.hostEvent();
      submitBehind(b, kept, y, 1);
      a.flush();
      while (script.runnable().isEmpty()) { // until the garbage collector has found it
        System.gc();
        Thread.onSpinWait();
      }
      script.runAll();
      assertThatExceptionOfType(StreamFailedException.class)
          .isThrownBy(a::synchronize)
          .withStackTraceContaining("event 1 of host queue 1 was dropped without a signal");
      assertThat(warnings).singleElement().asString().contains("dropped without a signal");
      assertThat(kept.query()).as("only what is dropped").isFalse();
      kept.signal();
      script.runAll();
      b.synchronize();
    } finally {
      logger.removeHandler(listener);
    }
  }

  @Test
  void areNotDroppedByWhoHasSignalledThem() throws Exception {
    for (int i = 0; i < 100; i++) {
      device.hostEvent().signal();
    }
    HostEvent event = device.hostEvent();
    event.signal();
    event.promise().enqueue(); // as the collector does
    event.await();
    HostEvent refused = device.hostEvent();
    a.waitFor(refused);
    a.flush();
    script.refuse("signal", 1, Status.OUT_OF_MEMORY);
    refused.promise().enqueue(); // the first try is refused, a later one is not
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(refused::await)
        .withStackTraceContaining("dropped without a signal");
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(refused::signal);
  }

  /** An event that was signalled, and that the collector reports nevertheless. */
  private static WeakReference<HostPromise> endedAndReported(Device of) {
    HostEvent event = of.hostEvent();
    event.signal();
    event.promise().enqueue();
    return new WeakReference<>(event.promise());
  }

  @Test
  void areForgottenOnceTheyAreDroppedAndEnded() {
    Device alone = withoutCompletionThread(Script.manual());
    WeakReference<HostPromise> promise = endedAndReported(alone);
    alone.tick();
    while (promise.get() != null) {
      System.gc();
      Thread.onSpinWait();
    }
  }

  // ---- thousands

  @Test
  void leaveSixteenQueuesForTheNext() {
    Script other = Script.manual();
    Device alone = withoutCompletionThread(other);
    List<HostEvent> open = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      open.add(alone.hostEvent());
    }
    open.forEach(HostEvent::signal);
    alone.tick();
    assertThat(hostQueues(other)).as("what was signalled is not told yet").hasSize(20);
    alone.completions().drain(0);
    alone.tick();
    assertThat(hostQueues(other)).hasSize(16);
    List<Long> known = new ArrayList<>();
    for (long id = FIRST_HOST_QUEUE + 1; id <= FIRST_HOST_QUEUE + 20; id++) {
      if (alone.timeline(id) != null) {
        known.add(id);
      }
    }
    assertThat(known).isEqualTo(hostQueues(other));
  }

  @Test
  void takeOneQueueForAnyNumberOneAfterTheOther() {
    for (int i = 0; i < 10_000; i++) {
      HostEvent event = device.hostEvent();
      event.signal();
      assertThat(event.query()).isTrue();
    }
    assertThat(hostQueues(script)).hasSize(1);
  }

  @Test
  void leaveFewQueuesBehindHoweverManyWereOpenAtOnce() {
    List<HostEvent> open = new ArrayList<>();
    for (int i = 0; i < 2000; i++) {
      open.add(device.hostEvent());
    }
    assertThat(hostQueues(script)).hasSize(2000);
    for (int i = 0; i < 2000; i++) {
      if (i % 2 == 0) {
        open.get(i).signal();
      } else {
        open.get(i).fail(new Planned("no"));
      }
    }
    while (hostQueues(script).size() > 16) { // the completion thread sees to it
      Thread.onSpinWait();
    }
    for (int i = 0; i < 2000; i++) {
      HostEvent event = open.get(i);
      assertThat(event.query()).isTrue();
      if (i % 2 == 0) {
        a.waitFor(event);
        event.await();
      } else {
        assertThatExceptionOfType(StreamFailedException.class)
            .isThrownBy(() -> a.waitFor(event))
            .havingRootCause()
            .isInstanceOf(Planned.class);
      }
    }
    assertThat(script.open(a.id())).isFalse();
  }
}
