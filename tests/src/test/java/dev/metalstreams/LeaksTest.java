package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Buffers that are dropped without a close: their memory comes back, and who did it is told. */
class LeaksTest extends CoreTest {
  private static final Logger LOGGER = Logger.getLogger("dev.metalstreams");

  private final Script script = Script.manual();
  private final List<LogRecord> reports = Collections.synchronizedList(new ArrayList<>());
  private final Handler listener =
      new Handler() {
        @Override
        public void publish(LogRecord report) {
          if (report.getLevel().equals(Level.WARNING)) {
            reports.add(report);
          }
        }

        @Override
        public void flush() {}

        @Override
        public void close() {}
      };

  @BeforeEach
  void listen() {
    LOGGER.addHandler(listener);
  }

  @AfterEach
  void listenNoMore() {
    LOGGER.removeHandler(listener);
  }

  private Device open(LeakLevel level) {
    Parts parts =
        new Parts() {
          @Override
          boolean completionThread() {
            return false; // it would look for leaks too
          }
        };
    return open(script, builder -> builder.parts(parts).leaks(level));
  }

  private static long drop(Device device, DeviceStream stream) {
    return device.allocate(1000, stream).handle();
  }

  private static void dropView(Device device, DeviceStream stream) {
    try (DeviceBuffer buffer = device.allocate(1000, stream)) {
      assertThat(buffer.map().byteSize()).isEqualTo(1000);
    }
  }

  private static void dropInFlight(Device device, DeviceStream stream, DeviceStream user) {
    user.fill(device.allocate(1000, stream), (byte) 1);
    user.flush();
  }

  /** Until the garbage collector has found one more. */
  private static void collect(Device device) throws InterruptedException {
    do {
      System.gc();
    } while (!device.allocator().awaitLeak(20));
  }

  private LogRecord onlyReport() {
    assertThat(reports).hasSize(1);
    return reports.get(0);
  }

  @ParameterizedTest
  @EnumSource
  void theMemoryComesBackOnEveryLevel(LeakLevel level) throws Exception {
    Device device = open(level);
    DeviceStream stream = device.streams().stream(1);
    long handle = drop(device, stream);
    assertThat(device.memory().stats().allocated()).isEqualTo(1024);
    collect(device);
    assertThat(device.memory().stats().allocated()).isZero();
    assertThat(device.memory().stats().active()).isZero();
    assertThat(device.memory().stats().leaks()).isEqualTo(1);
    try (DeviceBuffer next = device.allocate(1000, stream)) {
      assertThat(next.handle()).isEqualTo(handle);
    }
    assertThat(reports).hasSize(level == LeakLevel.DISABLED ? 0 : 1);
  }

  /** Of a stream, and of all sizes together. */
  @Test
  void oneIn128IsASample() {
    DeviceStream stream = open(LeakLevel.SIMPLE).streams().stream(1);
    List<Integer> samples = new ArrayList<>();
    for (int i = 0; i <= 256; i++) {
      try (DeviceBuffer buffer = stream.device().allocate(i % 3 == 0 ? 2 << 20 : 8, stream)) {
        if (buffer.tenancy().site != null) {
          samples.add(i);
        }
      }
    }
    assertThat(samples).containsExactly(0, 128, 256);
  }

  @Test
  void theReportHasThePlaceOfTheAllocation() throws Exception {
    Device device = open(LeakLevel.PARANOID);
    drop(device, device.streams().stream(1));
    collect(device);
    assertThat(onlyReport().getMessage())
        .contains("LEAK: a buffer of 1024 bytes on stream 1 was dropped without close()");
    assertThat(Objects.requireNonNull(onlyReport().getThrown()).getStackTrace())
        .anySatisfy(frame -> assertThat(frame.getMethodName()).isEqualTo("drop"));
  }

  @Test
  void onlySamplesKnowTheirPlace() throws Exception {
    Device device = open(LeakLevel.SIMPLE);
    DeviceStream stream = device.streams().stream(1);
    device.allocate(1000, stream).close(); // the first is a sample
    drop(device, stream);
    collect(device);
    assertThat(onlyReport().getMessage()).contains("Set memory.leaks=paranoid to learn where");
    assertThat(onlyReport().getThrown()).isNull();
    reports.clear();
    for (int i = 2; i < 128; i++) {
      device.allocate(1000, stream).close();
    }
    drop(device, stream);
    collect(device);
    assertThat(onlyReport().getThrown()).isNotNull();
  }

  @Test
  void theLastUseIsToldToo() throws Exception {
    Device device = open(LeakLevel.ADVANCED);
    DeviceStream stream = device.streams().stream(1);
    dropInFlight(device, stream, stream);
    script.runAll();
    collect(device);
    assertThat(Objects.requireNonNull(onlyReport().getThrown()).getSuppressed())
        .singleElement()
        .satisfies(
            use ->
                assertThat(use.getStackTrace())
                    .anySatisfy(frame -> assertThat(frame.getMethodName()).isEqualTo("fill")));
  }

  @Test
  void aDroppedViewHoldsABufferThatIsClosed() throws Exception {
    Device device = open(LeakLevel.SIMPLE);
    dropView(device, device.streams().stream(1));
    assertThat(device.memory().stats().allocated()).isEqualTo(1024);
    collect(device);
    assertThat(device.memory().stats().allocated()).isZero();
    assertThat(onlyReport().getMessage()).contains("a view of it was dropped without close()");
  }

  @Test
  void whatOthersStillUseComesBackWhenTheyArePast() throws Exception {
    Device device = open(LeakLevel.SIMPLE);
    dropInFlight(device, device.streams().stream(1), device.streams().stream(2));
    collect(device);
    assertThat(device.memory().stats().allocated()).isZero();
    assertThat(device.memory().stats().active()).isEqualTo(1024);
    script.runAll();
    device.completions().drain(0);
    assertThat(device.memory().stats().active()).isZero();
  }

  @Test
  void anAllocationTakesDroppedMemoryBack() throws Exception {
    Device device = open(LeakLevel.DISABLED);
    DeviceStream stream = device.streams().stream(1);
    script.memoryLimit(1500);
    drop(device, stream);
    DeviceBuffer next = null;
    while (next == null) { // until the collector has found it
      System.gc();
      try {
        next = device.allocate(1000, stream);
      } catch (OutOfDeviceMemoryException e) {
        assertThat(device.memory().stats().leaks()).isZero();
      }
    }
    next.close();
    assertThat(device.memory().stats().leaks()).isEqualTo(1);
  }

  @Test
  void whatWasClosedIsNoLeak() throws Exception {
    Device device = open(LeakLevel.PARANOID);
    DeviceStream stream = device.streams().stream(1);
    for (int i = 0; i < 1000; i++) {
      device.allocate(1000, stream).close();
    }
    drop(device, stream); // found after those, if those were leaks
    collect(device);
    device.allocator().reportLeaks();
    assertThat(device.memory().stats().leaks()).isEqualTo(1);
  }
}
