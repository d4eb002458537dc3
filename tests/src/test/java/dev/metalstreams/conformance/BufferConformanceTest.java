package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.Status;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Memory: sizes, views, limits, and ends that are refused. */
class BufferConformanceTest extends DriverConformance {

  @Test
  void areSeenByTheCpuInNativeOrder() {
    long buffer = driver.createBuffer(64);
    ByteBuffer whole = driver.contents(buffer, 0, 64);
    assertThat(whole.isDirect()).isTrue();
    assertThat(whole.order()).isEqualTo(ByteOrder.nativeOrder());
    assertThat(whole.position()).isZero();
    assertThat(whole.capacity()).isEqualTo(64);
    assertThat(whole.alignmentOffset(0, 64)).isZero();
    whole.putInt(20, 0x01020304);
    ByteBuffer part = driver.contents(buffer, 20, 4);
    assertThat(part.capacity()).isEqualTo(4);
    assertThat(part.order()).isEqualTo(ByteOrder.nativeOrder());
    assertThat(part.getInt(0)).isEqualTo(0x01020304);
    assertThat(driver.contents(buffer, 64, 0).capacity()).isZero();
    driver.destroyBuffer(buffer);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, -1, Long.MIN_VALUE, Long.MAX_VALUE})
  void ofImpossibleSizesAreRefused(long bytes) {
    DriverMemory before = driver.memory();
    refused(Status.INVALID_ARGUMENT, () -> driver.createBuffer(bytes));
    assertThat(driver.memory()).isEqualTo(before);
  }

  @Test
  void longerThanTheLongestAreRefused() {
    refused(Status.INVALID_ARGUMENT, () -> driver.createBuffer(driver.info().maxBufferBytes() + 1));
  }

  @Test
  void beyondTheLimitAreOutOfMemoryAndNothingIsLost() {
    long kept = driver.createBuffer(1000);
    DriverMemory before = driver.memory();
    subject.memoryLimit(driver, before.allocatedBytes() + (1 << 20));
    refused(Status.OUT_OF_MEMORY, () -> driver.createBuffer(2 << 20));
    assertThat(driver.memory().allocatedBytes()).isEqualTo(before.allocatedBytes());
    assertThat(driver.memory().bufferCount()).isEqualTo(before.bufferCount());
    long fits = driver.createBuffer(1 << 19);
    refused(Status.OUT_OF_MEMORY, () -> driver.createBuffer(1 << 20));
    driver.destroyBuffer(fits);
    driver.destroyBuffer(driver.createBuffer(1 << 19));
    driver.destroyBuffer(kept);
  }

  @ParameterizedTest
  @MethodSource("rangesOutside64")
  void haveNoViewsBeyondTheirEnd(long offset, long length) {
    long buffer = driver.createBuffer(64);
    if (length == (int) length) {
      refused(Status.INVALID_ARGUMENT, () -> driver.contents(buffer, offset, (int) length));
    }
    driver.destroyBuffer(buffer);
  }

  @Test
  void areNotEndedWhileAnOpenCommandBufferUsesThem() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    long value = queue.begin();
    driver.encodeFill(queue.handle, value, buffer, 0, 64, (byte) 1);
    refused(Status.INVALID_STATE, () -> driver.destroyBuffer(buffer));
    driver.discard(queue.handle, value);
    driver.destroyBuffer(buffer);
  }

  @Test
  void areNotEndedWhileUncompletedWorkUsesThem() {
    Rig.Queue queue = rig.queue();
    long source = rig.buffer(64, 7);
    long target = rig.buffer(64, 0);
    subject.hold(driver, queue.handle);
    queue.submit(value -> driver.encodeCopy(queue.handle, value, source, 0, target, 0, 64));
    refused(Status.INVALID_STATE, () -> driver.destroyBuffer(source));
    refused(Status.INVALID_STATE, () -> driver.destroyBuffer(target));
    subject.release(driver, queue.handle);
    queue.finish();
    assertThat(rig.bytes(target, 64)).as("the refused end did nothing").isEqualTo(repeated(7, 64));
    driver.destroyBuffer(source);
    driver.destroyBuffer(target);
  }

  @Test
  void areNotEndedWhileAnExecutableUsesThem() {
    Rig.Queue queue = rig.queue();
    long executable = driver.compile(relu());
    long input = rig.floats(-1, 2);
    long output = rig.floats(0, 0);
    subject.hold(driver, queue.handle);
    queue.submit(
        value ->
            driver.encodeExecutable(
                queue.handle, value, executable, rig.arguments(input, output), 2));
    refused(Status.INVALID_STATE, () -> driver.destroyBuffer(input));
    refused(Status.INVALID_STATE, () -> driver.destroyBuffer(output));
    subject.release(driver, queue.handle);
    queue.finish();
    driver.destroyBuffer(input);
    driver.destroyBuffer(output);
    driver.destroyExecutable(executable);
  }

  @Test
  void areFreeAgainAfterARefusedEncode() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    long value = queue.begin();
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeFill(queue.handle, value, buffer, 0, 65, (byte) 1));
    driver.destroyBuffer(buffer);
    queue.commit();
    queue.finish();
  }
}
