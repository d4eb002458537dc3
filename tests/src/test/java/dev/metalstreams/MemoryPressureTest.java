package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.CyclicBarrier;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Many threads when memory is short: who asks for what there is gets it, who asks for too much is
 * told so, and afterwards everything is as before, to the byte.
 */
@Timeout(120)
class MemoryPressureTest {
  private static final int THREADS = 7;
  private static final int OPERATIONS = 50;
  private static final long KIB = 1 << 10;

  /** Largest buffer of an operation; it has two at a time. */
  private static final long MOST = 96 * KIB;

  /** Enough for what all threads use at once, and not much more: each class rounds up. */
  private static final long ENOUGH = THREADS * 2 * (MOST + MOST / 8) + 64 * KIB;

  private static final long ABSURD = 100L << 30;

  /** Where it runs. */
  enum On {
    SCRIPTED {
      @Override
      Device open(UnaryOperator<Device.Builder> with) {
        Script script = Script.automaticBuilder().canAwait().seed(7).build();
        return with.apply(Device.builder().driver(script.provider())).open();
      }
    },
    HOST {
      @Override
      Device open(UnaryOperator<Device.Builder> with) {
        return with.apply(Device.builder().backend("host").mathLibrary("builtin").workers(2))
            .open();
      }
    };

    abstract Device open(UnaryOperator<Device.Builder> with);
  }

  /**
   * @param soft part of the limit from which cached memory is trimmed or taken; 0 for none, so that
   *     allocations run into the limit
   */
  private static Device withLimit(On on, double soft, StealPolicy steal) {
    long recommended;
    try (Device device = on.open(builder -> builder)) {
      recommended = device.info().recommendedBytes();
    }
    double ratio = (double) ENOUGH / recommended;
    return on.open(builder -> builder.memoryRatios(soft * ratio, ratio).steal(steal).debug(true));
  }

  /** Two buffers of sizes that differ each time; the content goes from one to the other. */
  private static void operate(Device device, DeviceStream stream, SplittableRandom random) {
    byte value = (byte) random.nextInt();
    long length = 1 + random.nextLong(MOST);
    try (DeviceBuffer target = device.allocate(length, stream)) {
      try (DeviceBuffer source = device.allocate(length, stream)) {
        stream.fill(source, value);
        stream.copy(source, 0, target, 0, length);
      } // its work is under way
      if (random.nextInt(3) == 0) {
        try (HostView view = target.map()) {
          assertThat(view.bytes(length - 1, 1).get(0)).isEqualTo(value);
        }
      }
    }
  }

  /** All threads operate at once, each on a stream of its own. */
  private static void operateTogether(Device device, long seed) throws Exception {
    CyclicBarrier together = new CyclicBarrier(THREADS);
    List<Background<Boolean>> workers = new ArrayList<>();
    for (int i = 0; i < THREADS; i++) {
      DeviceStream stream = device.streams().stream(1 + i);
      SplittableRandom random = new SplittableRandom(seed + i);
      workers.add(
          Background.run(
              () -> {
                together.await();
                for (int operation = 0; operation < OPERATIONS; operation++) {
                  operate(device, stream, random);
                }
              }));
    }
    for (Background<Boolean> worker : workers) {
      worker.get();
    }
  }

  private record Level(long allocated, long active, long reserved, long driver) {
    static Level of(Device device) {
      device.memory().emptyCache();
      MemoryStats stats = device.memory().stats();
      return new Level(
          stats.allocated(),
          stats.active(),
          stats.reserved(),
          device.driver().memory().allocatedBytes());
    }
  }

  @ParameterizedTest
  @EnumSource
  void anAbsurdRequestFailsAloneAndNamesTheFigures(On on) throws Exception {
    try (Device device = on.open(builder -> builder);
        DeviceBuffer kept = device.allocate(1000)) {
      Level before = Level.of(device);
      Background<Boolean> workers = Background.run(() -> operateTogether(device, 1));
      int refused = 0;
      do {
        assertThatExceptionOfType(OutOfDeviceMemoryException.class)
            .isThrownBy(() -> device.allocate(ABSURD))
            .withMessageContaining("cannot allocate " + ABSURD + " bytes: allocated ")
            .withMessageContainingAll(
                ", active ", ", reserved ", ", limit ", ", largest free block ")
            .withMessageContaining("The largest buffer of this device has ");
        refused++;
      } while (!workers.over());
      workers.get();
      assertThat(Level.of(device)).isEqualTo(before);
      assertThat(device.memory().stats().outOfMemories()).isEqualTo(refused);
      assertThat(kept.isClosed()).isFalse();
    }
  }

  @ParameterizedTest
  @EnumSource
  void underPressureEveryoneGetsWhatThereIs(On on) throws Exception {
    pressure(on, 0, StealPolicy.NEVER);
    for (StealPolicy steal : StealPolicy.values()) {
      pressure(on, 0.5, steal);
    }
  }

  private static void pressure(On on, double soft, StealPolicy steal) throws Exception {
    try (Device device = withLimit(on, soft, steal);
        DeviceBuffer kept = device.allocate(1000)) {
      Level before = Level.of(device);
      for (int cycle = 0; cycle < 3; cycle++) {
        operateTogether(device, cycle);
        assertThatExceptionOfType(OutOfDeviceMemoryException.class)
            .isThrownBy(() -> device.allocate(ENOUGH))
            .withMessageContaining("Close buffers that are no longer needed");
        assertThat(Level.of(device)).isEqualTo(before);
      }
      MemoryStats stats = device.memory().stats();
      assertThat(stats.outOfMemories()).isEqualTo(3);
      assertThat(stats.retries()).as("the limit was met").isGreaterThan(soft == 0 ? 3 : 0);
      assertThat(stats.bytes(MemoryStats.Metric.RESERVED, MemoryStats.Pool.ALL).peak())
          .isLessThanOrEqualTo(ENOUGH);
      assertThat(kept.isClosed()).isFalse();
    }
  }
}
