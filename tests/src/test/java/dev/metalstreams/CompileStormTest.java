package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CyclicBarrier;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Many threads that compile and run at once, on the host shim. */
@Timeout(120)
class CompileStormTest {
  private static final int THREADS = 16;

  private static Graph affine(int size) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, 2, size);
          g.output("y", g.add(g.multiply(x, size), g.constant(new float[] {1})));
        });
  }

  /** Every thread asks for every size so often, in an order of its own. */
  @ParameterizedTest
  @CsvSource({"30, 1, 64", "1, 50, 64", "30, 5, 64", "30, 5, 8"})
  void compileOncePerGraph(int sizes, int times, int capacity) throws Exception {
    try (Device device =
        Device.builder().backend("host").debug(true).graphCacheSize(capacity).open()) {
      CyclicBarrier start = new CyclicBarrier(THREADS);
      List<Background<Boolean>> all = new ArrayList<>();
      for (int thread = 0; thread < THREADS; thread++) {
        int seed = thread;
        all.add(
            Background.run(
                () -> {
                  List<Integer> order = new ArrayList<>();
                  for (int i = 0; i < sizes * times; i++) {
                    order.add(1 + i % sizes);
                  }
                  Collections.shuffle(order, new Random(seed));
                  start.await();
                  for (int size : order) {
                    compileAndRun(device, size);
                  }
                }));
      }
      for (Background<Boolean> each : all) {
        each.get();
      }
      GraphCacheStats stats = device.graphCache();
      assertThat(stats.hits() + stats.misses()).isEqualTo((long) THREADS * sizes * times);
      assertThat(stats.inUse()).isZero();
      assertThat(stats.size()).isEqualTo(Math.min(sizes, capacity));
      if (sizes <= capacity) {
        assertThat(stats.misses()).as("one compilation per graph").isEqualTo(sizes);
        assertThat(stats.evictions()).isZero();
      } else {
        assertThat(stats.evictions()).isEqualTo(stats.misses() - capacity);
      }
      assertThat(device.memory().stats().allocated()).isZero();
    }
  }

  private static void compileAndRun(Device device, int size) {
    float[] values = new float[2 * size];
    Arrays.fill(values, 3);
    float[] expected = new float[2 * size];
    Arrays.fill(expected, 3f * size + 1);
    try (Executable executable = device.compile(affine(size));
        Tensor x = device.tensor(values, 2, size);
        Tensor y = executable.run(x)) {
      assertThat(y.toFloats()).isEqualTo(expected);
    }
  }
}
