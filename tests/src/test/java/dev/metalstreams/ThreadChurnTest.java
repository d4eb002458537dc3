package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.script.Script;
import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Thousands of threads that each use the device once and end: nothing of them is left. */
class ThreadChurnTest extends CoreTest {
  private static final int THREADS = 4000;
  private static final int AT_ONCE = 8;
  private static final int POOL = 4;

  private final Device device = open(Script.immediate(), builder -> builder.poolSize(POOL));

  private void use() {
    try (DeviceBuffer buffer = device.allocate(1000)) {
      DeviceStream stream = device.streams().current();
      stream.fill(buffer, (byte) 7);
      stream.synchronize();
      assertThat(read(buffer)).isEqualTo((byte) 7);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void shortLivedThreadsLeaveNothingBehind(boolean virtual) throws Exception {
    List<WeakReference<Thread>> all = new ArrayList<>();
    for (int i = 0; i < THREADS; i += AT_ONCE) {
      List<Background<Boolean>> now = new ArrayList<>();
      for (int j = 0; j < AT_ONCE; j++) {
        now.add(virtual ? Background.runVirtually(this::use) : Background.run(this::use));
      }
      for (Background<Boolean> each : now) {
        each.get();
        all.add(new WeakReference<>(each.thread()));
      }
    }
    assertThat(all).hasSize(THREADS);
    MemoryStats stats = device.memory().stats();
    assertThat(stats.allocations()).isEqualTo(THREADS);
    assertThat(stats.active()).isZero();
    assertThat(stats.reserved())
        .as("as many blocks as were needed at once, at most")
        .isLessThanOrEqualTo(AT_ONCE * POOL * 1024L);
    assertThat(stats.leaks()).isZero();
    assertThat(device.streams().created()).isLessThanOrEqualTo(POOL);
    untilForgotten(all);
    assertThat(device.streams().liveBindings()).isZero();
    device.memory().emptyCache();
    assertThat(device.memory().stats().reserved()).isZero();
    assertThat(device.memory().snapshot()).isEmpty();
  }

  /** Nothing refers to the threads any more. */
  private static void untilForgotten(List<WeakReference<Thread>> threads) {
    while (threads.stream().anyMatch(each -> !each.refersTo(null))) {
      System.gc();
    }
  }
}
