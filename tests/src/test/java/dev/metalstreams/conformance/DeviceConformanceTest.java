package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverMemory;
import java.nio.ByteBuffer;
import org.junit.jupiter.api.Test;

/** A device: what it tells, and how it ends. */
class DeviceConformanceTest extends DriverConformance {

  @Test
  void tellsWhatItIs() {
    DeviceInfo info = driver.info();
    assertThat(info).isSameAs(driver.info());
    assertThat(info.backend()).isNotBlank();
    assertThat(info.name()).isNotBlank();
    assertThat(info.family()).isNotBlank();
    assertThat(info.math()).isNotBlank();
    assertThat(info.recommendedBytes()).isPositive();
    assertThat(info.maxBufferBytes()).isPositive();
    assertThat(info.workers()).isNotNegative();
    assertThat(info.maxInFlight()).isEqualTo(64);
    assertThat(info.abiVersion()).isEqualTo(1);
    assertThat(info.buildId()).matches("[0-9a-f]{16}");
  }

  @Test
  void countsItsMemory() {
    DriverMemory before = driver.memory();
    long first = driver.createBuffer(1000);
    long second = driver.createBuffer(1 << 20);
    DriverMemory during = driver.memory();
    assertThat(during.bufferCount()).isEqualTo(before.bufferCount() + 2);
    assertThat(during.allocatedBytes())
        .isGreaterThanOrEqualTo(before.allocatedBytes() + 1000 + (1 << 20));
    assertThat(during.limitBytes()).isEqualTo(before.limitBytes()).isPositive();
    driver.destroyBuffer(second);
    driver.destroyBuffer(first);
    assertThat(driver.memory()).isEqualTo(before);
  }

  @Test
  void closesTwice() {
    driver.close();
    driver.close();
  }

  @Test
  void runsCommittedWorkToItsEndWhenItCloses() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(64, 0);
    ByteBuffer view = driver.contents(buffer, 0, 64);
    for (int i = 1; i <= 50; i++) {
      queue.submitFill(buffer, 0, 64, i);
    }
    driver.close();
    assertThat(view.get(63)).isEqualTo((byte) 50);
    driver.destroyBuffer(buffer);
  }

  @Test
  void givesBuffersAndExecutablesBackAfterItClosed() {
    long buffer = driver.createBuffer(64);
    long executable = driver.compile(relu());
    driver.close();
    driver.destroyBuffer(buffer);
    driver.destroyExecutable(executable);
  }

  @Test
  void isIndependentOfOtherDevices() {
    try (Driver other = subject.open()) {
      Rig otherRig = new Rig(other);
      Rig.Queue here = rig.queue();
      Rig.Queue there = otherRig.queue();
      long bufferHere = rig.buffer(8, 0);
      long bufferThere = otherRig.buffer(8, 0);
      subject.hold(driver, here.handle);
      here.submitFill(bufferHere, 0, 8, 1);
      there.submitFill(bufferThere, 0, 8, 2);
      there.finish();
      assertThat(otherRig.bytes(bufferThere, 8)).isEqualTo(repeated(2, 8));
      assertThat(here.completed()).isZero();
      subject.release(driver, here.handle);
      here.finish();
      assertThat(rig.bytes(bufferHere, 8)).isEqualTo(repeated(1, 8));
      other.destroyBuffer(bufferThere);
    }
  }
}
