package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Work that is cancelled before it is submitted never runs, and everything it touched goes on. */
class CancellationTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceStream other = device.streams().stream(2);
  private DeviceBuffer buffer;

  @BeforeEach
  void allocate() {
    buffer = device.allocate(8, stream);
    write(buffer, 7);
  }

  /** Encodes fills behind a command buffer that the device has not done. */
  private void encodeBusily(int fills) {
    stream.fill(device.allocate(8, stream), (byte) 1);
    stream.flush();
    for (int i = 0; i < fills; i++) {
      stream.fill(buffer, (byte) 9);
    }
  }

  @Test
  void whatIsNotSubmittedNeverRuns() {
    encodeBusily(3);
    DeviceEvent event = stream.record();
    assertThat(stream.cancel()).isEqualTo(3);
    assertThat(stream.cancel()).as("nothing is left").isZero();
    script.runAll();
    assertThatExceptionOfType(WorkCancelledException.class)
        .isThrownBy(event::await)
        .withMessageContaining("stream 1")
        .withMessageContaining("3 operations");
    assertThat(event.query()).as("it is over").isTrue();
    assertThat(event.toFuture())
        .failsWithin(Duration.ofSeconds(20))
        .withThrowableThat()
        .withCauseInstanceOf(WorkCancelledException.class);
    assertThat(peek(buffer)).isEqualTo((byte) 7);
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(buffer::map);
  }

  @Test
  void whatIsSubmittedIsNotTouched() {
    stream.fill(buffer, (byte) 9);
    stream.flush();
    assertThat(stream.cancel()).isZero();
    script.runAll();
    assertThat(read(buffer)).isEqualTo((byte) 9);
  }

  @Test
  void aSynchronizeDoesNotComplainOfWhatIsSettled() {
    encodeBusily(1);
    stream.cancel();
    script.runAll();
    stream.synchronize();
    device.synchronize();
    stream.fill(buffer, (byte) 1);
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    stream.flush();
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(stream::synchronize);
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(device::synchronize);
    stream.reset();
    stream.synchronize();
    device.synchronize();
  }

  @Test
  void theStreamGoesOn() {
    encodeBusily(1);
    stream.cancel();
    assertThat(stream.failure()).isEmpty();
    stream.fill(buffer, (byte) 5);
    stream.flush();
    script.runAll();
    stream.synchronize();
    assertThat(read(buffer)).isEqualTo((byte) 5);
  }

  @Test
  void memoryThatCancelledWorkUsedComesBack() {
    encodeBusily(2);
    buffer.close();
    stream.cancel();
    script.runAll();
    stream.synchronize(Duration.ofSeconds(20));
    device.memory().emptyCache();
    assertThat(device.memory().stats().pendingByStream()).isEmpty();
  }

  @Test
  void anotherStreamDoesNotTakeItForDone() {
    encodeBusily(1);
    DeviceEvent event = stream.record();
    stream.cancel();
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(() -> other.waitFor(event));
    script.runAll();
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(() -> other.waitFor(event));
  }

  @Test
  void theStreamStillWaitsForWhatItWasMadeToWaitFor() {
    DeviceBuffer written = device.allocate(8, other);
    other.fill(written, (byte) 3);
    other.flush();
    encodeBusily(0);
    stream.waitFor(other.record());
    stream.fill(buffer, (byte) 9);
    assertThat(stream.cancel()).as("a wait is no operation").isEqualTo(1);
    stream.copy(written, 0, buffer, 0, 8);
    stream.flush();
    script.run(stream.id()); // its first command buffer
    assertThat(script.runnable()).as("the wait stands").containsExactly(other.id());
    script.runAll();
    assertThat(read(buffer)).isEqualTo((byte) 3);
  }

  @Test
  void aRefusedReplacementIsMadeUpForLater() {
    encodeBusily(2);
    DeviceEvent event = stream.record();
    script.refuse("begin", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(stream::cancel);
    stream.fill(buffer, (byte) 5); // at the value after the cancelled one
    stream.flush();
    script.runAll();
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(event::await);
    assertThat(read(buffer)).isEqualTo((byte) 5);
  }

  @Test
  void aRefusedReplacementIsMadeUpForByItsWaiter() {
    encodeBusily(2);
    DeviceEvent event = stream.record();
    script.refuse("commit", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(stream::cancel);
    script.letRun();
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(event::await);
  }

  @Test
  void aReplacementThatWasNotBegunIsMadeUpForByItsWaiter() {
    encodeBusily(2);
    DeviceEvent event = stream.record();
    script.refuse("begin", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(stream::cancel);
    script.letRun();
    assertThatExceptionOfType(WorkCancelledException.class).isThrownBy(event::await);
  }

  @Test
  void aReplacementThatWasNotBegunIsMadeUpForAtTheClose() {
    encodeBusily(2);
    script.refuse("begin", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(stream::cancel);
    script.letRun();
    device.close();
    assertThat(warnings()).noneMatch(each -> each.contains("refused at close"));
  }

  @Test
  void waitsOfEarlierCommandBuffersAreNotCounted() {
    other.fill(device.allocate(8, other), (byte) 1);
    other.flush();
    stream.waitFor(other.record());
    stream.flush();
    stream.fill(buffer, (byte) 9);
    stream.fill(buffer, (byte) 9);
    assertThat(stream.cancel()).isEqualTo(2);
    script.runAll();
  }

  @Test
  void aFailureThatComesLaterCoversWhatWasCancelled() {
    encodeBusily(1);
    DeviceEvent event = stream.record();
    stream.cancel();
    stream.fill(buffer, (byte) 5);
    DeviceEvent later = stream.record();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    stream.flush();
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(event::await);
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(later::await);
    assertThat(stream.failure()).isPresent();
  }

  @Test
  void aLateWaiterLearnsOfEveryFailureHoweverManyFollowed() {
    DeviceEvent[] events = new DeviceEvent[100];
    for (int i = 0; i < 100; i++) {
      stream.fill(buffer, (byte) i);
      if (i % 2 == 0) {
        script.fail(stream.id(), Status.EXECUTION, "fault " + i);
      }
      events[i] = stream.record();
      stream.flush();
      script.runAll();
      try {
        events[i].await();
      } catch (StreamFailedException e) {
        stream.reset();
      }
    }
    for (int i = 0; i < 100; i++) {
      if (i % 2 == 0) {
        assertThatExceptionOfType(MetalStreamsException.class).isThrownBy(events[i]::await);
      } else {
        events[i].await();
      }
    }
  }
}
