package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.List;
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

  /** The work of both is in one command buffer, so their values are the same. */
  @Test
  void failsForTheNextUserToo() {
    DeviceBuffer first = device.allocate(8, stream);
    stream.fill(first, (byte) 1);
    long handle = first.handle();
    first.close();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(handle);
    stream.fill(next, (byte) 2);
    stream.flush();
    assertThat(script.committed(stream.id())).isEqualTo(1);
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(next::map);
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

  /** The last tenant's work is not even submitted. */
  @Test
  void anotherStreamSubmitsWhatItHasToFollow() {
    DeviceBuffer first = device.allocate(8, stream);
    stream.fill(first, (byte) 1);
    first.close();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(first.handle());
    other.fill(next, (byte) 7);
    assertThat(script.committed(stream.id())).isEqualTo(1);
    other.flush();
    assertThat(script.runnable()).as("it waits").containsExactly(stream.id());
    script.runAll();
    assertThat(read(next)).isEqualTo((byte) 7);
  }

  @Test
  void workThatNobodySeesFollowsTheLastTenantToo() {
    closeInFlight(1);
    DeviceBuffer next = device.allocate(8, stream);
    next.recordStream(other); // then the caller queues work of his own on it
    other.fill(device.allocate(8, other), (byte) 1);
    other.flush();
    assertThat(script.runnable()).containsExactly(stream.id());
    script.runAll();
  }

  @Test
  void aGraphFollowsTheLastTenantsOfAllItsTensors() {
    try (Executable add =
        device.compile(
            Graph.build(
                g ->
                    g.output(
                        "y", g.add(g.input("a", DType.F32, 2), g.input("b", DType.F32, 2)))))) {
      for (int at = 0; at < 3; at++) {
        List<Tensor> tensors = tensorsWithOneRecycled(3, 2, at);
        add.runInto(other, tensors.subList(0, 2), tensors.subList(2, 3));
        theOtherStreamWaits(tensors);
      }
    }
  }

  @Test
  void aLayerNormFollowsTheLastTenantsOfAllItsTensors() {
    for (int at = 0; at < 4; at++) {
      List<Tensor> tensors = tensorsWithOneRecycled(4, 2, at);
      other.layerNorm(tensors.get(0), tensors.get(1), tensors.get(2), 1, tensors.get(3));
      theOtherStreamWaits(tensors);
    }
  }

  /** Vectors of the other stream, but one of a block that work of the first stream still uses. */
  private List<Tensor> tensorsWithOneRecycled(int count, long elements, int recycled) {
    List<Tensor> tensors = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      DeviceStream owner = other;
      if (i == recycled) {
        closeInFlight(1);
        owner = stream;
      }
      tensors.add(device.empty(owner, DType.F32, Shape.of(elements)));
    }
    return tensors;
  }

  private void theOtherStreamWaits(List<Tensor> tensors) {
    other.flush();
    assertThat(script.runnable()).containsExactly(stream.id());
    script.runAll();
    device.synchronize();
    tensors.forEach(Tensor::close);
  }

  /** Once the close has found that the others are past, they are asked no more. */
  @Test
  void whoIsPastAtTheCloseIsForgotten() {
    DeviceBuffer buffer = device.allocate(8, stream);
    other.fill(buffer, (byte) 1);
    other.flush();
    script.runAll();
    other.synchronize();
    Uses uses = buffer.tenancy().block.uses;
    buffer.recordStream(stream);
    buffer.close();
    other.fill(device.allocate(8, other), (byte) 1);
    other.flush();
    uses.close();
    assertThat(uses.passed()).isTrue();
    assertThat(uses.outstanding()).isZero();
    script.runAll();
  }

  @Test
  void theUsesOfEveryStreamAreKeptApart() {
    List<DeviceStream> users = new ArrayList<>();
    DeviceBuffer buffer = device.allocate(8, stream);
    for (int index = 3; index <= 7; index++) {
      DeviceStream user = device.streams().stream(index);
      users.add(user);
      user.fill(buffer, (byte) index);
      user.flush();
      user.fill(buffer, (byte) index);
      user.flush();
    }
    Uses uses = buffer.tenancy().block.uses;
    assertThat(uses.outstanding()).isEqualTo(5);
    for (int done = 1; done <= users.size(); done++) {
      DeviceStream user = users.get(users.size() - done);
      script.run(user.id());
      assertThat(user.query()).isFalse();
      assertThat(uses.outstanding()).as("one of two is done").isEqualTo(6 - done);
      script.run(user.id());
      assertThat(user.query()).isTrue();
      assertThat(uses.outstanding()).isEqualTo(5 - done);
    }
    assertThat(uses.othersPassed()).isTrue();
  }

  @Test
  void theCpuLearnsOfTheFailureOfAnyStreamThatUsedTheMemory() {
    DeviceBuffer buffer = device.allocate(8, stream);
    DeviceStream third = device.streams().stream(3);
    for (DeviceStream user : List.of(other, third)) {
      user.fill(buffer, (byte) 1);
      user.flush();
    }
    script.fail(third.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(buffer::map)
        .withMessageContaining("stream 3")
        .withMessageContaining("page fault");
    buffer.close();
  }

  @Test
  void aRecordedStreamCountsForItsTenantAlone() {
    DeviceBuffer first = device.allocate(8, stream);
    first.recordStream(other);
    first.close();
    DeviceBuffer next = device.allocate(8, stream);
    assertThat(next.handle()).isEqualTo(first.handle());
    other.fill(device.allocate(8, other), (byte) 1);
    other.flush(); // has nothing to do with the second tenant
    next.close();
    try (DeviceBuffer third = device.allocate(8, stream)) {
      assertThat(third.handle()).isEqualTo(first.handle());
    }
    script.runAll();
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
