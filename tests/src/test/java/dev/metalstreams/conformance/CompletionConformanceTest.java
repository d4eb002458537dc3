package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.conformance.Rig.Completion;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The completion queue. */
class CompletionConformanceTest extends DriverConformance {

  @Test
  void comeOncePerCommandBufferAndInOrder() {
    List<Rig.Queue> queues = IntStream.range(0, 5).mapToObj(i -> rig.queue()).toList();
    for (int i = 0; i < 50; i++) {
      queues.forEach(Rig.Queue::submitEmpty);
    }
    queues.forEach(Rig.Queue::finish);
    for (Rig.Queue queue : queues) {
      assertThat(rig.completionsOf(queue))
          .extracting(Completion::value)
          .containsExactlyElementsOf(IntStream.rangeClosed(1, 50).mapToObj(Long::valueOf).toList());
      assertThat(rig.completionsOf(queue)).allSatisfy(c -> assertThat(c.failure()).isNull());
    }
    assertThat(rig.drain(0)).isZero();
  }

  @Test
  void carryTheTimesOfTheDevice() {
    Rig.Queue queue = rig.queue();
    long buffer = rig.buffer(1 << 20, 0);
    for (int i = 0; i < 20; i++) {
      queue.submitFill(buffer, 0, 1 << 20, i);
    }
    queue.finish();
    long last = 1;
    for (Completion completion : rig.completionsOf(queue)) {
      assertThat(completion.startNanos()).isGreaterThanOrEqualTo(last);
      assertThat(completion.endNanos()).isGreaterThan(completion.startNanos());
      last = completion.endNanos();
    }
  }

  @Test
  void canBeHadBeforeTheirValueIsSeen() {
    Rig.Queue queue = rig.queue();
    for (int i = 1; i <= 200; i++) {
      long value = queue.submitEmpty();
      while (queue.completed() < value) {
        Thread.onSpinWait();
      }
      assertThat(rig.drain(0)).isEqualTo(1);
      assertThat(rig.completions.getLast().value()).isEqualTo(value);
    }
  }

  @Test
  void areWaitedForNoLongerThanAsked() {
    assertThat(rig.drain(0)).isZero();
    assertThat(rig.drain(1000)).isZero();
  }

  @Test
  void letTheDrainingThreadGoWhenItIsWoken() throws Exception {
    driver.wake();
    assertThat(rig.drain(FOREVER)).as("a wake that came before").isZero();
    assertThat(rig.drain(0)).isZero();
    try (ExecutorService executor = Executors.newSingleThreadExecutor()) {
      Future<Integer> drained = executor.submit(() -> rig.drain(FOREVER));
      driver.wake();
      assertThat(drained.get()).isZero();
    }
  }

  @Test
  void reachTheThreadThatWaitsForThem() throws Exception {
    Rig.Queue queue = rig.queue();
    try (ExecutorService executor = Executors.newSingleThreadExecutor()) {
      Future<Integer> drained = executor.submit(() -> rig.drain(FOREVER));
      queue.submitEmpty();
      assertThat(drained.get()).isEqualTo(1);
    }
  }

  @Test
  void areLostByNoneOfSeveralDrainingThreads() throws Exception {
    Rig.Queue queue = rig.queue();
    List<Long> seen = Collections.synchronizedList(new ArrayList<>());
    try (ExecutorService executor = Executors.newFixedThreadPool(3)) {
      List<Future<?>> drainers = new ArrayList<>();
      for (int i = 0; i < 3; i++) {
        drainers.add(
            executor.submit(
                () -> {
                  while (seen.size() < 500) {
                    driver.nextCompletions(
                        (id, value, start, end, failure) -> seen.add(value), A_SECOND / 100);
                  }
                }));
      }
      for (int i = 0; i < 500; i++) {
        while (queue.committed - queue.completed() >= 64) {
          Thread.onSpinWait();
        }
        queue.submitEmpty();
      }
      for (Future<?> drainer : drainers) {
        drainer.get();
      }
    }
    assertThat(seen).hasSize(500).doesNotHaveDuplicates();
  }
}
