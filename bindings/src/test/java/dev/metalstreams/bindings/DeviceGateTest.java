package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class DeviceGateTest {

  @Test
  void whoIsInsideIsWaitedForAndUrged() throws Exception {
    DeviceGate gate = new DeviceGate();
    CountDownLatch urged = new CountDownLatch(1);
    AtomicBoolean left = new AtomicBoolean();
    gate.enter();
    try (ExecutorService executor = Executors.newSingleThreadExecutor()) {
      Future<Boolean> shut =
          executor.submit(
              () -> {
                boolean first = gate.shut(urged::countDown);
                assertThat(left).isTrue();
                return first;
              });
      urged.await();
      assertThatExceptionOfType(DriverException.class).isThrownBy(gate::enter);
      left.set(true);
      gate.leave();

      assertThat(shut.get()).isTrue();
      assertThat(gate.shut(() -> {})).isFalse();
    }
  }

  /** However calls and closing fall together, no call is inside after the gate was shut. */
  @Test
  void nobodyIsInsideAfterwards() throws Exception {
    for (int round = 0; round < 200; round++) {
      DeviceGate gate = new DeviceGate();
      AtomicBoolean closed = new AtomicBoolean();
      CountDownLatch running = new CountDownLatch(3);
      try (ExecutorService executor = Executors.newFixedThreadPool(3)) {
        List<Future<?>> callers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
          callers.add(
              executor.submit(
                  () -> {
                    running.countDown();
                    while (true) {
                      try {
                        gate.enter();
                      } catch (DriverException shut) {
                        return;
                      }
                      boolean late = closed.get();
                      gate.leave();
                      assertThat(late).isFalse();
                    }
                  }));
        }
        running.await();
        assertThat(gate.shut(() -> {})).isTrue();
        closed.set(true);
        for (Future<?> caller : callers) {
          caller.get();
        }
      }
    }
  }

  @Test
  void anInterruptIsKeptForTheCaller() throws Exception {
    DeviceGate gate = new DeviceGate();
    gate.enter();
    Thread.currentThread().interrupt();

    assertThat(gate.shut(gate::leave)).isTrue();

    assertThat(Thread.interrupted()).isTrue();
  }
}
