package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

/** The completion thread: its duty cycle by hand, its housekeeping and its end. */
class CompletionLoopTest extends CoreTest {
  private final Script script = Script.manual();

  private Device byHand() {
    return byHand(builder -> builder);
  }

  private Device byHand(UnaryOperator<Device.Builder> with) {
    Parts parts =
        new Parts() {
          @Override
          boolean completionThread() {
            return false;
          }
        };
    return open(script, builder -> with.apply(builder).parts(parts));
  }

  private static DeviceStream submit(Device device, int index) {
    DeviceStream stream = device.streams().stream(index);
    try (DeviceBuffer buffer = device.allocate(8, stream)) {
      stream.fill(buffer, (byte) 1);
    }
    stream.flush();
    return stream;
  }

  @Test
  void aRefusedCallLosesNoCompletion() {
    Device device = byHand();
    DeviceStream stream = submit(device, 1);
    submit(device, 1);
    script.runAll();
    script.refuse("nextCompletions", 1, Status.OUT_OF_MEMORY);
    assertThat(device.completions().drain(0)).isZero();
    assertThat(stream.timeline().completed()).isZero();
    assertThat(device.completions().drain(0)).isEqualTo(2);
    assertThat(stream.timeline().completed()).isEqualTo(2);
    assertThat(device.completions().drain(0)).isZero();
  }

  @Test
  void memoryGoesBackWhenItsWorkIsToldToBeDone() {
    Device device = byHand(builder -> builder.memoryMode(MemoryMode.NO_CACHE));
    submit(device, 1);
    assertThat(script.buffers()).as("closed, but in use").isEqualTo(1);
    script.runAll();
    assertThat(script.buffers()).isEqualTo(1);
    device.completions().drain(0);
    assertThat(script.buffers()).isZero();
  }

  @Test
  void aFailureIsToldWithTheOneThatItCameFrom() {
    Device device = byHand();
    DeviceStream first = submit(device, 1);
    DeviceStream second = device.streams().stream(2);
    second.waitFor(first.record());
    try (DeviceBuffer buffer = device.allocate(8, second)) {
      second.fill(buffer, (byte) 1);
    }
    second.flush();
    script.fail(first.id(), Status.EXECUTION, "page fault");
    script.runAll();
    device.completions().drain(0);
    assertThat(first.failure()).hasValueSatisfying(failure -> assertThat(failure).hasNoCause());
    assertThat(second.failure())
        .hasValueSatisfying(failure -> assertThat(failure).hasCause(first.failure().get()));
  }

  @Test
  void aDeviceThatReportsItsLossIsLost() {
    Device device = byHand();
    DeviceStream stream = submit(device, 1);
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    device.completions().drain(0);
    assertThat(device.isLost()).as("by a failure of one stream").isFalse();
    DeviceStream other = submit(device, 2);
    script.fail(other.id(), Status.DEVICE_LOST, "unplugged");
    script.runAll();
    device.completions().drain(0);
    assertThat(device.isLost()).isTrue();
  }

  @Test
  void refusalsWithoutAnEndAreALostDevice() {
    Device device = byHand();
    CompletionLoop loop = device.completions();
    Runnable refusal =
        () -> {
          throw new DriverException(Status.OUT_OF_MEMORY, "planned");
        };
    script.intercept("nextCompletions", refusal);
    for (int i = 0; i < 7; i++) {
      assertThat(loop.drain(0)).isZero();
    }
    script.intercept("nextCompletions", null);
    loop.drain(0); // in between one that is heard: they are counted anew
    script.intercept("nextCompletions", refusal);
    for (int i = 0; i < 7; i++) {
      assertThat(loop.drain(0)).isZero();
    }
    assertThatExceptionOfType(DriverException.class).isThrownBy(() -> loop.drain(0));
    script.intercept("nextCompletions", null);
    script.refuse("nextCompletions", 1, Status.DEVICE_LOST);
    assertThatExceptionOfType(DriverException.class)
        .as("not tried again")
        .isThrownBy(() -> loop.drain(0));
  }

  @Test
  void aThreadThatIsRefusedForGoodLosesTheDevice() {
    Device device = open(script);
    script.intercept(
        "nextCompletions",
        () -> {
          throw new DriverException(Status.OUT_OF_MEMORY, "planned");
        });
    while (!device.isLost()) {
      Thread.onSpinWait();
    }
    assertThat(takeComplaints()).singleElement().asString().contains("every wait fails");
    script.intercept("nextCompletions", null);
  }

  @Test
  void aCompletionThatNobodyAskedForIsAnError() {
    Device device = byHand();
    device.completions().completed(999, 1, 0, 0, null);
    assertThat(takeComplaints()).singleElement().asString().contains("unknown queue 999");
  }

  @Test
  void theHousekeepingSubmitsWhatNobodyFollowsUp() throws Exception {
    Device device = open(script, builder -> builder.set(Settings.Key.COMMIT_IDLE, "1"));
    DeviceStream stream = device.streams().stream(1);
    try (DeviceBuffer buffer = device.allocate(8, stream)) {
      stream.fill(buffer, (byte) 1);
    }
    script.awaitCommitted(stream.id(), 1);
  }

  @Test
  void aThreadThatDoesNotComeBackIsNotWaitedForForEver() throws Exception {
    Device device = open(script);
    Halt halt = script.halt("nextCompletions");
    halt.awaitReached();
    assertThat(device.completions().stop(0)).isFalse();
    assertThat(device.completions().stop(1000)).isFalse();
    Background<Boolean> closer =
        Background.run(
                () -> {
                  assertThat(device.completions().stop(TimeUnit.HOURS.toNanos(1))).isTrue();
                  assertThat(Thread.currentThread().isInterrupted()).as("kept").isTrue();
                })
            .untilParked();
    closer.thread().interrupt();
    halt.end();
    closer.get();
  }

  @Test
  void theStopWakesTheThread() {
    Device device = open(script);
    List<Thread> wakers = new CopyOnWriteArrayList<>();
    script.intercept("wake", () -> wakers.add(Thread.currentThread()));
    assertThat(device.completions().stop(TimeUnit.HOURS.toNanos(1))).isTrue();
    assertThat(wakers).containsExactly(Thread.currentThread());
  }

  @Test
  void itEndsAlsoIfItCannotBeWoken() {
    Device device = open(script);
    script.refuse("wake", 1, Status.INTERNAL);
    assertThat(device.completions().stop(TimeUnit.HOURS.toNanos(1))).isTrue();
  }
}
