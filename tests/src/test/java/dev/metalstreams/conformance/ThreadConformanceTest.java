package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.driver.Driver;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/** Many threads, each with a queue of its own. */
class ThreadConformanceTest extends DriverConformance {

  @Test
  void useQueuesOfTheirOwnAtOnce() throws Exception {
    List<Future<?>> workers = new ArrayList<>();
    try (ExecutorService executor = Executors.newFixedThreadPool(8)) {
      for (int i = 0; i < 8; i++) {
        int seed = i + 1;
        Rig.Queue queue = rig.queue();
        workers.add(executor.submit(() -> work(queue, seed)));
      }
      for (Future<?> worker : workers) {
        worker.get();
      }
    }
    assertThat(driver.memory().bufferCount()).isZero();
  }

  private void work(Rig.Queue queue, int seed) {
    for (int i = 0; i < 100; i++) {
      long a = driver.createBuffer(256);
      long b = driver.createBuffer(256);
      byte fill = (byte) (seed * 31 + i);
      long value = queue.begin();
      driver.encodeFill(queue.handle, value, a, 0, 256, fill);
      driver.encodeCopy(queue.handle, value, a, 0, b, 0, 256);
      queue.commit(Driver.COMMIT_WAITING);
      while (!driver.awaitValue(queue.handle, value, A_SECOND)) {
        Thread.onSpinWait();
      }
      assertThat(rig.bytes(b, 256)).isEqualTo(repeated(fill, 256));
      driver.destroyBuffer(a);
      driver.destroyBuffer(b);
    }
  }
}
