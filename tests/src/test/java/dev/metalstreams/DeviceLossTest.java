package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** When the device is gone everybody is told at once, and the close still leaves nothing behind. */
class DeviceLossTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script, builder -> builder.watchdog(Duration.ZERO));
  private final DeviceStream a = device.streams().stream(1);
  private final DeviceStream b = device.streams().stream(2);

  private static void submit(DeviceStream stream) {
    stream.fill(stream.device().allocate(8, stream), (byte) 1);
    stream.flush();
  }

  private void lose() {
    script.fail(a.id(), Status.DEVICE_LOST, "unplugged");
    script.run(a.id());
  }

  private static void assertLost(Runnable use) {
    assertThatExceptionOfType(DeviceLostException.class)
        .isThrownBy(use::run)
        .withStackTraceContaining("unplugged");
  }

  @Test
  void everyWaiterOfEveryStreamIsTold() throws Exception {
    submit(a);
    submit(b);
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (DeviceStream stream : List.of(a, b)) {
      DeviceEvent event = stream.record();
      Background.Work wait =
          () ->
              assertThatExceptionOfType(MetalStreamsException.class)
                  .isThrownBy(event::await)
                  .withStackTraceContaining("unplugged");
      waiters.add(Background.run(wait).untilParked());
      waiters.add(Background.runVirtually(wait).untilParked());
      waiters.add(
          Background.run(
              () ->
                  assertThat(event.toFuture())
                      .failsWithin(Duration.ofSeconds(20))
                      .withThrowableThat()
                      .withStackTraceContaining("unplugged")));
    }
    lose(); // b's work never ends by itself
    for (Background<Boolean> waiter : waiters) {
      waiter.get(Duration.ofSeconds(20));
    }
  }

  @Test
  void nothingNewIsTaken() throws Exception {
    DeviceBuffer buffer = device.allocate(8, b);
    submit(a);
    lose();
    while (!device.isLost()) {
      Thread.onSpinWait();
    }
    assertLost(() -> device.allocate(8));
    assertLost(() -> b.fill(buffer, (byte) 1));
    assertLost(b::synchronize);
    assertLost(device::synchronize);
    assertLost(() -> device.streams().lease());
    assertLost(() -> device.streams().stream(9));
    assertLost(() -> device.streams().setCurrent(b));
    assertLost(() -> device.compile(layer(1, 1, 1)));
  }

  @Test
  void aCallThatFindsTheDeviceGoneTellsAllAsWell() throws Exception {
    submit(b);
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceLostException.class)
                        .isThrownBy(b.record()::await))
            .untilParked();
    script.refuse("commit", 1, Status.DEVICE_LOST);
    DeviceBuffer buffer = device.allocate(8, a);
    a.fill(buffer, (byte) 1);
    assertThatExceptionOfType(DeviceLostException.class).isThrownBy(a::flush);
    waiter.get(Duration.ofSeconds(20));
  }

  @Test
  void completionsThatAreRefusedOnceAreAskedForAgain() {
    script.refuse("nextCompletions", 1, Status.OUT_OF_MEMORY);
    submit(a);
    script.letRun();
    a.record().toFuture().join();
    assertThat(device.isLost()).isFalse();
  }

  @Test
  void theCloseWaitsForWorkThatNobodyIsToldOf() throws Exception {
    submit(a);
    submit(b);
    lose();
    while (!device.isLost()) {
      Thread.onSpinWait();
    }
    Background<Boolean> closer = Background.run(device::close).untilParked();
    assertThat(closer.over()).as("b's work may still write").isFalse();
    script.letRun();
    closer.get(Duration.ofSeconds(20));
    assertThat(script.closed()).isTrue();
  }
}
