package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * A block's life: closes in flight, views, figures. Without a cache, so that what is given back
 * shows at the driver.
 */
class DeviceBufferTest extends CoreTest {
  /** The smallest block. */
  private static final long BLOCK = 256;

  private final Script script = Script.manual();
  private final Device device =
      open(script, builder -> builder.set(Settings.Key.MEMORY_MODE, "no_cache"));
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceStream other = device.streams().stream(2);

  private void untilActiveIs(long bytes) {
    // Nothing is cached here, so what is not active goes to the driver: a moment later, and by the
    // completion thread.
    while (device.memory().stats().active() != bytes
        || device.memory().stats().reserved() != bytes) {
      Thread.onSpinWait();
    }
  }

  // ---- close

  @Test
  void closedIdleIsGivenBackAtOnce() {
    DeviceBuffer buffer = device.allocate(100, stream);
    assertThat(buffer.byteSize()).isEqualTo(100);
    assertThat(buffer.device()).isSameAs(device);
    assertThat(buffer.stream()).isSameAs(stream);
    assertThat(script.buffers()).isEqualTo(1);
    buffer.close();
    assertThat(buffer.isClosed()).isTrue();
    assertThat(script.buffers()).isZero();
    buffer.close();
    buffer.close();
    assertThat(device.memory().stats().active()).isZero();
  }

  @Test
  void closedInFlightIsNotGivenBackBeforeTheDeviceHasPassedIt() {
    DeviceBuffer source = device.allocate(8, stream);
    DeviceBuffer target = device.allocate(8, stream);
    write(source, 5);
    stream.copy(source, 0, target, 0, 8);
    stream.flush();
    source.close();
    assertThat(script.buffers()).isEqualTo(2);
    assertThat(device.memory().stats().allocated()).isEqualTo(BLOCK);
    assertThat(device.memory().stats().active()).isEqualTo(2 * BLOCK);
    script.step(stream.id()); // the copy is done, its completion is not
    assertThat(script.buffers()).isEqualTo(2);
    script.run(stream.id());
    untilActiveIs(BLOCK);
    assertThat(script.buffers()).isEqualTo(1);
    assertThat(peek(target)).isEqualTo((byte) 5);
  }

  @Test
  void closedWhileItsWorkIsNotEvenSubmittedWaitsForThat() {
    DeviceBuffer source = device.allocate(8, stream);
    DeviceBuffer target = device.allocate(8, stream);
    write(source, 6);
    stream.copy(source, 0, target, 0, 8);
    source.close();
    assertThat(script.committed(stream.id())).isZero();
    assertThat(script.buffers()).isEqualTo(2);
    stream.flush();
    script.runAll();
    untilActiveIs(BLOCK);
    assertThat(peek(target)).isEqualTo((byte) 6);
  }

  @Test
  void usedBySeveralStreamsWaitsForTheLast() {
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    other.fill(buffer, (byte) 2);
    other.flush();
    DeviceStream third = device.streams().stream(3);
    third.fill(buffer, (byte) 3);
    third.flush();
    buffer.close();
    script.run(other.id());
    script.run(stream.id());
    device.allocate(4).close(); // allocation reclaims too, and must not take this one
    assertThat(device.memory().stats().active()).isEqualTo(BLOCK);
    assertThat(script.buffers()).isEqualTo(1);
    script.run(third.id());
    untilActiveIs(0);
  }

  @Test
  void aRecordedStreamCountsWithItsWorkUpToTheClose() {
    DeviceBuffer foreign = device.allocate(8, stream);
    DeviceBuffer unrelated = device.allocate(8, other);
    foreign.recordStream(other);
    other.fill(unrelated, (byte) 1); // after the record, before the close: counts
    other.flush();
    foreign.close();
    other.fill(unrelated, (byte) 2); // after the close: does not
    other.flush();
    assertThat(script.buffers()).isEqualTo(2);
    script.run(other.id());
    untilActiveIs(BLOCK);
    assertThat(script.inFlight(other.id())).isEqualTo(1);
  }

  @Test
  void itsOwnStreamCanBeRecordedToo() {
    DeviceBuffer foreign = device.allocate(8, stream);
    DeviceBuffer unrelated = device.allocate(8, stream);
    foreign.recordStream(stream);
    stream.fill(unrelated, (byte) 1);
    stream.flush();
    foreign.close();
    assertThat(script.buffers()).isEqualTo(2);
    script.runAll();
    untilActiveIs(BLOCK);
  }

  @Test
  void isGivenBackWhenItsWorkFailed() {
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    buffer.close();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    untilActiveIs(0);
  }

  @Test
  void doesNotShowItsMemoryToTheNextBeforeItsWorkIsDone() {
    DeviceBuffer source = device.allocate(8, stream);
    DeviceBuffer target = device.allocate(8, stream);
    write(source, 5);
    stream.copy(source, 0, target, 0, 8);
    stream.flush();
    source.close();
    for (int i = 0; i < 4; i++) { // whoever is next may write at once
      write(device.allocate(8, stream), 99);
      write(device.allocate(8, other), 99);
    }
    script.runAll();
    assertThat(read(target)).isEqualTo((byte) 5);
  }

  @ParameterizedTest
  @ValueSource(strings = {"encodeFill", "begin", "commit"})
  void closedWhileAnotherThreadEncodesWithItIsSafe(String within) throws Exception {
    DeviceBuffer buffer = device.allocate(8, stream);
    Halt halt = script.halt(within);
    Background<Boolean> encoder =
        Background.run(
            () -> {
              stream.fill(buffer, (byte) 1);
              stream.flush();
            });
    halt.awaitReached();
    buffer.close(); // does not wait
    assertThat(buffer.isClosed()).isTrue();
    assertThat(script.buffers()).as("in use by the encode").isEqualTo(1);
    halt.end();
    encoder.get();
    assertThat(script.buffers()).isEqualTo(1);
    script.runAll();
    untilActiveIs(0);
    assertThat(script.violations()).isEmpty();
  }

  @Test
  void isClosedOnceByManyThreadsAtOnce() throws Exception {
    for (int round = 0; round < 50; round++) {
      DeviceBuffer buffer = device.allocate(8, stream);
      stream.fill(buffer, (byte) 1);
      CyclicBarrier together = new CyclicBarrier(4);
      List<Background<Boolean>> closers = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        closers.add(
            Background.run(
                () -> {
                  together.await();
                  buffer.close();
                }));
      }
      for (Background<Boolean> closer : closers) {
        closer.get();
      }
      stream.flush();
      script.runAll();
      untilActiveIs(0);
    }
    assertThat(device.memory().stats().allocations()).isEqualTo(50);
  }

  @Test
  void isUsedOrRefusedButNeverInBetween() throws Exception {
    script.letRun();
    for (int round = 0; round < 200; round++) {
      DeviceBuffer buffer = device.allocate(8, stream);
      CyclicBarrier together = new CyclicBarrier(2);
      Background<Boolean> encoder =
          Background.run(
              () -> {
                together.await();
                try {
                  for (int i = 0; i < 100; i++) {
                    stream.fill(buffer, (byte) i);
                  }
                } catch (IllegalStateException e) {
                  assertThat(e).hasMessageContaining("closed");
                }
              });
      together.await();
      buffer.close();
      encoder.get();
      assertThatExceptionOfType(IllegalStateException.class)
          .isThrownBy(() -> stream.fill(buffer, (byte) 1));
    }
    stream.synchronize();
    untilActiveIs(0);
    assertThat(script.violations()).isEmpty();
  }

  // ---- views

  @Test
  void mapWaitsForEveryStream() throws Exception {
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    other.waitFor(stream.record());
    other.fill(buffer, (byte) 2); // not submitted: map does that
    Background<Byte> reader = Background.call(() -> read(buffer));
    script.awaitCommitted(other.id(), 1);
    reader.untilParked();
    assertThat(reader.over()).isFalse();
    script.run(stream.id());
    assertThat(reader.untilParked().over()).isFalse();
    script.run(other.id());
    assertThat(reader.get()).isEqualTo((byte) 2);
  }

  @Test
  void mapThrowsTheFailureOfItsWorkAndLetsGo() {
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(buffer::map);
    buffer.close();
    untilActiveIs(0);
  }

  @Test
  void whoHasLearnedThatItsWorkFailedMayLookAtIt() {
    Script failing = Script.manual();
    Device detecting = open(failing, builder -> builder.hazards(HazardMode.DETECT));
    DeviceStream writer = detecting.streams().stream(1);
    try (DeviceBuffer buffer = detecting.allocate(8, writer)) {
      writer.fill(buffer, (byte) 1);
      writer.flush();
      failing.fail(writer.id(), Status.EXECUTION, "page fault");
      assertThatExceptionOfType(StreamRaceException.class).isThrownBy(buffer::mapUnsafe);
      failing.runAll();
      assertThatExceptionOfType(StreamFailedException.class).isThrownBy(buffer::map);
      buffer.mapUnsafe().close(); // that work is over
    }
  }

  @Test
  void mapUnsafeWaitsForNothing() {
    DeviceBuffer buffer = device.allocate(8, stream);
    write(buffer, 3);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    assertThat(peek(buffer)).isEqualTo((byte) 3);
  }

  @Test
  void aViewOutlivesTheCloseOfItsBuffer() {
    DeviceBuffer buffer = device.allocate(8, stream);
    HostView view = buffer.map();
    assertThat(view.byteSize()).isEqualTo(8);
    ByteBuffer bytes = view.bytes();
    bytes.put(0, (byte) 42);
    buffer.close();
    assertThat(bytes.get(0)).isEqualTo((byte) 42);
    assertThat(view.bytes(0, 4).get(0)).isEqualTo((byte) 42);
    assertThat(script.buffers()).isEqualTo(1);
    view.close();
    view.close();
    assertThat(script.buffers()).isZero();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(view::bytes)
        .withMessageContaining("closed");
  }

  @Test
  void aViewMayOutliveTheDevice() {
    DeviceBuffer buffer = device.allocate(8, stream);
    HostView view = buffer.map();
    ByteBuffer bytes = view.bytes();
    bytes.put(0, (byte) 42);
    device.close();
    assertThat(bytes.get(0)).isEqualTo((byte) 42);
    view.close();
    assertThat(script.buffers()).isZero();
  }

  @Test
  void closedBeforeItsDeviceItTellsOfTheDevice() {
    DeviceBuffer buffer = device.allocate(8, stream);
    buffer.close();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(buffer::map)
        .withMessage("the buffer is closed");
    device.close();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(buffer::map);
  }

  // ---- figures and limits

  @Test
  void countsWithItsLengthTowardsItsCommandBuffer() {
    Script counted = Script.manual();
    Device small = open(counted, builder -> builder.set(Settings.Key.COMMIT_MEGABYTES, "1"));
    DeviceStream busy = small.streams().stream(1);
    normalise(busy, 1);
    busy.flush(); // under way, so that what follows is not committed by itself
    normalise(busy, (1 << 16) - 1);
    assertThat(counted.committed(busy.id())).as("four times four bytes too few").isEqualTo(1);
    normalise(busy, 1);
    assertThat(counted.committed(busy.id())).as("a megabyte").isEqualTo(2);
  }

  /** An operation on four buffers of so many floats. */
  private static void normalise(DeviceStream on, int columns) {
    Device device = on.device();
    try (Tensor x = device.empty(DType.F32, 1, columns);
        Tensor gamma = device.empty(DType.F32, columns);
        Tensor beta = device.empty(DType.F32, columns);
        Tensor y = device.empty(DType.F32, 1, columns)) {
      on.layerNorm(x, gamma, beta, 1e-5f, y);
    }
  }

  @Test
  void tellsItsLengthAndItsStream() {
    try (DeviceBuffer buffer = device.allocate(100, stream)) {
      assertThat(buffer).hasToString("buffer of 100 bytes on stream 1");
    }
  }

  @Test
  void isCounted() {
    DeviceBuffer a = device.allocate(1000, stream);
    DeviceBuffer b = device.allocate(500, stream);
    assertFigures(1500, 1536, 1536);
    a.close();
    assertFigures(500, 512, 1536);
    b.close();
    assertFigures(0, 0, 1536);
    assertThat(device.memory().stats().allocations()).isEqualTo(2);
  }

  private void assertFigures(long requested, long held, long peak) {
    MemoryStats stats = device.memory().stats();
    assertThat(stats.requested()).isEqualTo(requested);
    assertThat(stats.allocated()).isEqualTo(held);
    assertThat(stats.active()).isEqualTo(held);
    assertThat(stats.reserved()).isEqualTo(held);
    assertThat(stats.peak()).isEqualTo(peak);
  }

  @Test
  void outOfMemoryTellsTheFiguresAndLosesNothing() {
    script.memoryLimit(1500);
    try (DeviceBuffer kept = device.allocate(1000, stream)) {
      assertThatExceptionOfType(OutOfDeviceMemoryException.class)
          .isThrownBy(() -> device.allocate(1000, stream))
          .withMessageContaining("1000 bytes")
          .withMessageContaining("limit 1500");
      assertThat(kept.isClosed()).isFalse();
      assertThat(device.memory().stats().allocated()).isEqualTo(1024);
    }
    device.allocate(1000, stream).close();
  }

  @Test
  void outOfMemoryIsReportedOnlyAfterWaitingForWhatIsPending() throws Exception {
    script.memoryLimit(1500);
    DeviceBuffer first = device.allocate(1000, stream);
    stream.fill(first, (byte) 1); // not even submitted
    first.close();
    Background<DeviceBuffer> next = Background.call(() -> device.allocate(1000, other));
    script.awaitCommitted(stream.id(), 1);
    assertThat(next.untilParked().over()).isFalse();
    script.runAll();
    next.get().close();
  }

  @Test
  void outOfMemoryWaitsForMemoryThatIsJustBeingGivenBack() throws Exception {
    script.memoryLimit(1500);
    DeviceBuffer first = device.allocate(1000, stream);
    stream.fill(first, (byte) 1);
    stream.flush();
    first.close();
    Halt halt = script.halt("destroyBuffer");
    script.runAll();
    halt.awaitReached(); // the completion thread is about to give it back
    Background<DeviceBuffer> next = Background.call(() -> device.allocate(1000, other));
    next.untilParked();
    halt.end();
    next.get().close();
  }

  @Test
  void aFailedStreamDoesNotKeepMemoryFromOthers() {
    script.memoryLimit(1500);
    DeviceBuffer first = device.allocate(1000, stream);
    stream.fill(first, (byte) 1);
    stream.flush();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    first.close();
    device.allocate(1000, other).close();
  }
}
