package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Fills and copies, and what may not be encoded. */
class EncodingConformanceTest extends DriverConformance {

  @Test
  void fillsExactlyTheRange() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 1);
    queue.submitFill(buffer, 3, 7, 0xFE);
    queue.finish();
    byte[] expected = repeated(1, 64);
    Arrays.fill(expected, 3, 10, (byte) 0xFE);
    assertThat(rig.bytes(buffer, 64)).isEqualTo(expected);
  }

  @Test
  void copiesExactlyTheRange() {
    Rig.Queue queue = rig.queue();
    long source = driver.createBuffer(64);
    long target = rig.buffer(64, 0);
    ByteBuffer content = driver.contents(source, 0, 64);
    for (int i = 0; i < 64; i++) {
      content.put(i, (byte) (i + 1));
    }
    queue.submit(value -> driver.encodeCopy(queue.handle, value, source, 5, target, 11, 13));
    queue.finish();
    byte[] expected = new byte[64];
    for (int i = 0; i < 13; i++) {
      expected[11 + i] = (byte) (5 + i + 1);
    }
    assertThat(rig.bytes(target, 64)).isEqualTo(expected);
  }

  @Test
  void copiesWithinABufferWhereTheRangesOnlyTouch() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    queue.submit(
        value -> {
          driver.encodeFill(queue.handle, value, buffer, 0, 32, (byte) 3);
          driver.encodeCopy(queue.handle, value, buffer, 0, buffer, 32, 32);
        });
    queue.finish();
    assertThat(rig.bytes(buffer, 64)).isEqualTo(repeated(3, 64));
  }

  @ParameterizedTest
  @MethodSource("rangesOutside64")
  void refusesRangesBeyondTheEnd(long offset, long length) {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 5);
    long large = rig.buffer(1 << 16, 5);
    long value = queue.begin();
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeFill(queue.handle, value, buffer, offset, length, (byte) 1));
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeCopy(queue.handle, value, buffer, offset, large, 0, length));
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeCopy(queue.handle, value, large, 0, buffer, offset, length));
    queue.commit();
    queue.finish();
    assertThat(rig.bytes(buffer, 64)).isEqualTo(repeated(5, 64));
    assertThat(queue.failed()).isZero();
  }

  @Test
  void refusesOverlappingCopies() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 5);
    long value = queue.begin();
    for (long[] offsets : new long[][] {{0, 0}, {0, 31}, {31, 0}, {16, 17}, {32, 1}}) {
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeCopy(queue.handle, value, buffer, offsets[0], buffer, offsets[1], 32));
    }
    queue.commit();
    queue.finish();
  }

  @Test
  void leavesTheCommandBufferAsItWasAfterARefusal() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, buffer, 0, 32, (byte) 1);
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeFill(queue.handle, value, buffer, 60, 5, (byte) 9));
    driver.encodeFill(queue.handle, value, buffer, 32, 32, (byte) 2);
    queue.commit();
    queue.finish();
    byte[] expected = repeated(1, 64);
    Arrays.fill(expected, 32, 64, (byte) 2);
    assertThat(rig.bytes(buffer, 64)).isEqualTo(expected);
    driver.destroyBuffer(buffer);
  }

  @Test
  void refusesWhatBelongsToAnotherDevice() {
    try (Driver other = subject.open()) {
      Rig otherRig = new Rig(other);
      long foreign = otherRig.buffer(64, 0);
      Rig.Queue foreignQueue = otherRig.queue();
      foreignQueue.submitEmpty();
      long foreignExecutable = other.compile(relu());
      Rig.Queue queue = rig.queue();
      queue.submitEmpty();
      long own = rig.floats(1, 2);
      long result = rig.floats(0, 0);
      long executable = driver.compile(relu());
      long value = queue.begin();
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeFill(queue.handle, value, foreign, 0, 8, (byte) 1));
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeCopy(queue.handle, value, foreign, 0, own, 0, 8));
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeCopy(queue.handle, value, own, 0, foreign, 0, 8));
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeWait(queue.handle, value, foreignQueue.handle, 1));
      refused(
          Status.INVALID_ARGUMENT,
          () ->
              driver.encodeExecutable(
                  queue.handle, value, executable, rig.arguments(foreign, result), 2));
      refused(
          Status.INVALID_ARGUMENT,
          () ->
              driver.encodeExecutable(
                  queue.handle, value, executable, rig.arguments(own, foreign), 2));
      refused(
          Status.INVALID_ARGUMENT,
          () ->
              driver.encodeExecutable(
                  queue.handle, value, foreignExecutable, rig.arguments(own, result), 2));
      queue.commit();
      queue.finish();
      foreignQueue.finish();
      other.destroyBuffer(foreign);
      other.destroyExecutable(foreignExecutable);
    }
  }

  @Test
  void refusesMissingObjects() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    long executable = driver.compile(relu());
    long value = queue.begin();
    refused(
        Status.INVALID_ARGUMENT, () -> driver.encodeFill(queue.handle, value, 0, 0, 8, (byte) 1));
    refused(
        Status.INVALID_ARGUMENT, () -> driver.encodeCopy(queue.handle, value, 0, 0, buffer, 0, 8));
    refused(
        Status.INVALID_ARGUMENT, () -> driver.encodeCopy(queue.handle, value, buffer, 0, 0, 0, 8));
    refused(Status.INVALID_ARGUMENT, () -> driver.encodeWait(queue.handle, value, 0, 0));
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeExecutable(queue.handle, value, 0, rig.arguments(buffer, buffer), 2));
    refused(
        Status.INVALID_ARGUMENT,
        () ->
            driver.encodeExecutable(queue.handle, value, executable, rig.arguments(buffer, 0), 2));
    queue.commit();
    queue.finish();
  }
}
