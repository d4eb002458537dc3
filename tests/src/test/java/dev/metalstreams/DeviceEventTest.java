package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** Events: a stream and a number. */
class DeviceEventTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceBuffer buffer = device.allocate(8, stream);

  /** An event of one committed fill. */
  private DeviceEvent submitFill(int value) {
    stream.fill(buffer, (byte) value);
    stream.flush();
    return stream.record();
  }

  @Test
  void areCompleteWhenWhatCameBeforeIs() {
    assertThat(stream.record().query()).as("nothing was encoded").isTrue();
    DeviceEvent first = submitFill(1);
    DeviceEvent second = submitFill(2);
    assertThat(first.stream()).isSameAs(stream);
    assertThat(first.value()).isEqualTo(1);
    assertThat(second.value()).isEqualTo(2);
    assertThat(first.query()).isFalse();
    script.run(stream.id());
    assertThat(first.query()).isTrue();
    assertThat(second.query()).isFalse();
    script.run(stream.id());
    assertThat(second.query()).isTrue();
    first.await();
    second.await(Duration.ZERO);
  }

  @Test
  void doNotWaitForWhatCameAfter() {
    DeviceEvent first = submitFill(1);
    submitFill(2);
    script.run(stream.id());
    first.await(Duration.ZERO);
  }

  @Test
  void giveUpAfterTheirTime() {
    DeviceEvent event = submitFill(1);
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> event.await(Duration.ZERO));
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> event.await(Duration.ofMillis(1)))
        .withMessageContaining("1 ms");
    script.runAll();
    event.await(Duration.ZERO);
    event.await(Duration.ofDays(100_000_000));
  }

  @Test
  void areAwaitedByAnyNumberOfThreads() throws Exception {
    DeviceEvent event = submitFill(7);
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (int i = 0; i < 5; i++) {
      Background.Work wait =
          () -> {
            event.await();
            assertThat(peek(buffer)).as("what was waited for is there").isEqualTo((byte) 7);
          };
      waiters.add(Background.run(wait).untilParked());
      waiters.add(Background.runVirtually(wait).untilParked());
    }
    assertThat(waiters).noneMatch(Background::over);
    script.runAll();
    for (Background<Boolean> waiter : waiters) {
      waiter.get();
    }
  }

  @Test
  void hearAnInterruptAndKeepTheFlag() throws Exception {
    DeviceEvent event = submitFill(1);
    Background.Work wait =
        () -> {
          assertThatExceptionOfType(WaitInterruptedException.class).isThrownBy(event::await);
          assertThat(Thread.currentThread().isInterrupted()).isTrue();
        };
    for (Background<Boolean> waiter :
        List.of(Background.run(wait), Background.runVirtually(wait))) {
      waiter.untilParked().thread().interrupt();
      waiter.get();
    }
    Background.run(
            () -> {
              Thread.currentThread().interrupt();
              assertThatExceptionOfType(WaitInterruptedException.class).isThrownBy(event::await);
              script.runAll();
              event.await(); // nothing to wait for any more
              assertThat(Thread.currentThread().isInterrupted()).isTrue();
            })
        .get();
  }

  @Test
  void becomeFutures() throws Exception {
    DeviceEvent event = submitFill(1);
    CompletableFuture<?> future = event.toFuture();
    AtomicReference<Thread> ranOn = new AtomicReference<>();
    CompletableFuture<?> dependent = future.thenRun(() -> ranOn.set(Thread.currentThread()));
    assertThat(future).isNotDone();
    script.runAll();
    dependent.get();
    assertThat(future).isCompleted();
    assertThat(ranOn.get().isVirtual()).as("never on the completion thread").isTrue();
    assertThat(event.toFuture().get()).isNull();
  }

  @Test
  void becomeFuturesThatSubmit() throws Exception {
    stream.fill(buffer, (byte) 1);
    CompletableFuture<?> future = stream.record().toFuture();
    script.runAll();
    future.get();
  }

  @Test
  void becomeFuturesThatFail() {
    CompletableFuture<?> future = submitFill(1).toFuture();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(ExecutionException.class)
        .isThrownBy(future::get)
        .withCauseInstanceOf(StreamFailedException.class)
        .withMessageContaining("page fault");
  }

  @Test
  void areTimedByTheDevice() {
    AtomicLong clock = new AtomicLong();
    Script timed = Script.manualBuilder().clock(clock::get).build();
    Device on = open(timed);
    DeviceStream s = on.streams().current();
    DeviceBuffer b = on.allocate(8);
    s.fill(b, (byte) 1);
    DeviceEvent first = s.recordTimed();
    s.fill(b, (byte) 1);
    DeviceEvent second = s.recordTimed();
    clock.set(1000);
    timed.run(s.id());
    clock.set(4000);
    timed.run(s.id());
    assertThat(DeviceEvent.elapsed(first, second)).isEqualTo(Duration.ofNanos(3000));
    assertThat(DeviceEvent.elapsed(second, first)).isEqualTo(Duration.ofNanos(-3000));
    assertThat(DeviceEvent.elapsed(first, first)).isZero();
    assertThat(second.value()).isEqualTo(2);
  }

  @Test
  void areTimedOnlyIfAskedFor() {
    DeviceEvent plain = stream.record();
    DeviceEvent timed = stream.recordTimed();
    script.runAll();
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> DeviceEvent.elapsed(plain, timed))
        .withMessageContaining("recordTimed");
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> DeviceEvent.elapsed(timed, plain));
    Device other = open(Script.immediate());
    DeviceEvent foreign = other.streams().current().recordTimed();
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> DeviceEvent.elapsed(timed, foreign))
        .withMessageContaining("two devices");
  }

  @Test
  void measureNothingThatFailed() {
    DeviceEvent first = stream.recordTimed();
    DeviceEvent second = stream.recordTimed();
    script.run(stream.id());
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.run(stream.id());
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> DeviceEvent.elapsed(first, second));
  }

  @Test
  void orderStreams() {
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer copy = device.allocate(8, other);
    stream.fill(buffer, (byte) 5);
    other.waitFor(stream.record());
    other.copy(buffer, 0, copy, 0, 8);
    other.flush();
    assertThat(script.runnable()).containsExactly(stream.id());
    script.runAll();
    assertThat(peek(copy)).isEqualTo((byte) 5);
  }

  @Test
  void ofAClosedDeviceAreDoneIfTheyWereReached() {
    DeviceEvent reached = submitFill(1);
    CompletableFuture<?> future = reached.toFuture();
    script.letRun();
    device.close();
    assertThat(reached.query()).isTrue();
    reached.await();
    reached.await(Duration.ZERO);
    assertThat(future).succeedsWithin(Duration.ofSeconds(25));
  }

  @Test
  void ofADeviceThatCouldNotFinishThrow() throws Exception {
    Script stuck = Script.manual();
    Device on = open(stuck, builder -> builder.closeTimeout(Duration.ofMillis(1)));
    DeviceStream s = on.streams().current();
    s.fill(on.allocate(8), (byte) 1);
    s.flush();
    DeviceEvent event = s.record();
    CompletableFuture<?> future = event.toFuture();
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await))
            .untilParked();
    assertThatExceptionOfType(WaitTimeoutException.class).isThrownBy(on::close);
    waiter.get();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await);
    assertThatExceptionOfType(DeviceClosedException.class)
        .isThrownBy(() -> event.await(Duration.ofHours(1)));
    assertThatExceptionOfType(ExecutionException.class)
        .isThrownBy(future::get)
        .withCauseInstanceOf(DeviceClosedException.class);
    assertThat(event.query()).isFalse();
    on.close();
    forget(on);
  }
}
