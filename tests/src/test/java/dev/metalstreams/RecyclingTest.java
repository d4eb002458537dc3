package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Memory that goes from one user to the next in stream order. */
class RecyclingTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceStream other = device.streams().stream(2);

  /** A closed block of the stream that a fill, still under way, writes. */
  private long closeInFlight(int value) {
    DeviceBuffer first = device.allocate(8, stream);
    stream.fill(first, (byte) value);
    stream.flush();
    long handle = first.handle();
    first.close();
    return handle;
  }

  @Test
  void goesToTheNextUserOnItsStreamAtOnce() {
    long handle = closeInFlight(1);
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(handle);
    assertThat(script.buffers()).isEqualTo(1);
    stream.fill(next, (byte) 2);
    stream.flush();
    script.runAll();
    assertThat(read(next)).as("the stream keeps the order").isEqualTo((byte) 2);
  }

  @Test
  void goesToNoOtherStreamWhileItsWorkIsUnderWay() {
    long handle = closeInFlight(1);
    assertThat(device.allocate(8, other).handle()).isNotEqualTo(handle);
  }

  @Test
  void goesToNobodyWhileAnotherStreamUsesIt() {
    DeviceBuffer first = device.allocate(8, stream);
    other.fill(first, (byte) 1);
    other.flush();
    long handle = first.handle();
    first.close();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isNotEqualTo(handle);
    next.close();
    script.runAll();
    other.synchronize();
  }

  @Test
  void isShownToTheCpuOnlyWhenTheLastTenantsWorkIsDone() throws Exception {
    long handle = closeInFlight(1);
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(handle);
    Background<Byte> reader =
        Background.call(
                () -> {
                  write(next, 9);
                  return read(next);
                })
            .untilParked();
    assertThat(reader.over()).isFalse();
    script.runAll();
    assertThat(reader.get()).isEqualTo((byte) 9);
  }

  @Test
  void isNotTakenForTheCpuWhileTheLastTenantsWorkIsUnderWay() {
    long handle = closeInFlight(1);
    DeviceBuffer[] mine = new DeviceBuffer[1];
    device
        .streams()
        .runWith(
            stream,
            () -> {
              // Would hang in a write if it got the block that is still in use.
              Tensor tensor = device.tensor(new float[] {1, 2}, 2);
              mine[0] = tensor.buffer();
            });
    assertThat(mine[0].handle()).isNotEqualTo(handle);
    script.runAll();
    assertThat(mine[0].isClosed()).isFalse();
  }

  @Test
  void carriesNoFailureOfTheLastTenantToTheNext() {
    long handle = closeInFlight(1);
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(stream::synchronize);
    stream.reset();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(handle);
    write(next, 3);
    assertThat(read(next)).isEqualTo((byte) 3);
  }

  @ParameterizedTest
  @ValueSource(strings = {"fill", "copy from", "copy to"})
  void isSafeToUseOnAnotherStreamRightAfterItsAllocation(String use) {
    long handle = closeInFlight(1);
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(handle);
    DeviceBuffer mine = device.allocate(8, other);
    write(mine, 7);
    switch (use) {
      case "fill" -> other.fill(next, (byte) 7);
      case "copy to" -> other.copy(mine, 0, next, 0, 8);
      default -> {
        other.fill(next, (byte) 7);
        other.copy(next, 0, mine, 0, 8);
      }
    }
    other.flush();
    // The last tenant's fill must not come after the new tenant's.
    while (script.runnable().contains(other.id())) {
      script.step(other.id());
    }
    script.runAll();
    assertThat(read(next)).isEqualTo((byte) 7);
    assertThat(read(mine)).isEqualTo((byte) 7);
  }

  @Test
  void aClosedHandleIsOfNoUseWhoeverHasTheBlock() {
    DeviceBuffer first = device.allocate(8, stream);
    first.close();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(first.handle());
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(() -> stream.fill(first, (byte) 1))
        .withMessageContaining("closed");
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(first::map);
    first.close(); // must not close the next tenant's
    assertThat(next.isClosed()).isFalse();
    write(next, 4);
    assertThat(read(next)).isEqualTo((byte) 4);
    assertThat(device.memory().stats().allocated()).isEqualTo(256);
  }

  @Test
  void returnsToTheDriverWhenItsLastViewIsClosedAfterTheDevice() {
    DeviceBuffer buffer = device.allocate(8, stream);
    HostView view = buffer.map();
    device.close();
    assertThat(script.buffers()).isEqualTo(1);
    view.close();
    assertThat(script.buffers()).isZero();
  }

  @Test
  void returnsToTheDriverWhenTheCacheIsEmptied() throws Exception {
    closeInFlight(1);
    Background<Boolean> emptier = Background.run(() -> device.memory().emptyCache()).untilParked();
    assertThat(script.buffers()).isEqualTo(1);
    script.runAll();
    emptier.get();
    assertThat(script.buffers()).isZero();
  }
}
