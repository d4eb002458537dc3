package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.Status;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Sharing of compiled graphs, with a compiler that the test controls. */
@Timeout(60)
class GraphCacheTest {
  private final Map<GraphSpec, Long> compilations = new ConcurrentHashMap<>();
  private final Map<Long, GraphSpec> live = new ConcurrentHashMap<>();
  private final AtomicLong handles = new AtomicLong();

  private long compile(GraphSpec key) {
    compilations.merge(key, 1L, Long::sum);
    long handle = handles.incrementAndGet();
    live.put(handle, key);
    return handle;
  }

  private void destroy(long handle) {
    assertThat(live.remove(handle)).as("destroyed once").isNotNull();
  }

  private GraphCache cache(int capacity) {
    return new GraphCache(this::compile, this::destroy, capacity);
  }

  /** Who compiles the graph of size 1 says so, and waits. */
  private GraphCache haltedCache(CountDownLatch compiling, CountDownLatch go) {
    return new GraphCache(
        key -> {
          if (key.equals(graph(1))) {
            compiling.countDown();
            awaitUninterrupted(go);
          }
          return compile(key);
        },
        this::destroy,
        8);
  }

  /** Another object at every call, equal for equal sizes. */
  private static GraphSpec graph(long size) {
    return Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, size);
              g.output("y", g.multiply(x, g.constant(new float[] {size}, 1)));
            })
        .spec();
  }

  @Test
  void equalGraphsShareAndOthersDoNot() {
    GraphCache cache = cache(4);
    GraphCache.Program first = cache.acquire(graph(1));
    GraphCache.Program again = cache.acquire(graph(1));
    GraphCache.Program other = cache.acquire(graph(2));
    assertThat(again.handle()).isEqualTo(first.handle()).isNotEqualTo(other.handle());
    assertThat(cache.stats()).isEqualTo(new GraphCacheStats(1, 2, 0, 2, 2, 4));
    List.of(first, again, other).forEach(cache::release);
    assertThat(cache.stats()).isEqualTo(new GraphCacheStats(1, 2, 0, 2, 0, 4));
    cache.close();
    assertThat(live).isEmpty();
  }

  @Test
  void theLeastRecentlyUsedMakesRoom() {
    GraphCache cache = cache(2);
    cache.release(cache.acquire(graph(1)));
    cache.release(cache.acquire(graph(2)));
    cache.release(cache.acquire(graph(1)));
    cache.release(cache.acquire(graph(3)));
    assertThat(live.values()).containsExactlyInAnyOrder(graph(1), graph(3));
    assertThat(cache.stats()).isEqualTo(new GraphCacheStats(1, 3, 1, 2, 0, 2));
  }

  @Test
  void whatIsInUseStays() {
    GraphCache cache = cache(1);
    List<GraphCache.Program> used = new ArrayList<>();
    for (int i = 1; i <= 3; i++) {
      used.add(cache.acquire(graph(i)));
    }
    cache.release(cache.acquire(graph(4)));
    assertThat(live.values()).containsExactlyInAnyOrder(graph(1), graph(2), graph(3));
    cache.release(used.get(0));
    cache.release(used.get(1));
    assertThat(live.values()).containsExactly(graph(3));
    cache.close();
    assertThat(live).as("still in use").hasSize(1);
    cache.release(used.get(2));
    assertThat(live).isEmpty();
  }

  @Test
  void withoutCapacityNothingIsKept() {
    GraphCache cache = cache(0);
    GraphCache.Program program = cache.acquire(graph(1));
    assertThat(live).hasSize(1);
    cache.release(program);
    assertThat(live).isEmpty();
  }

  @Test
  void othersWaitForACompilationWithoutALock() throws Exception {
    CountDownLatch compiling = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    GraphCache cache = haltedCache(compiling, go);
    Background<GraphCache.Program> first = Background.call(() -> cache.acquire(graph(1)));
    compiling.await();
    Background<GraphCache.Program> second =
        Background.call(() -> cache.acquire(graph(1))).untilParked();
    cache.release(cache.acquire(graph(2))); // somebody else's graph does not wait
    assertThat(second.over()).isFalse();
    go.countDown();
    assertThat(second.get().handle()).isEqualTo(first.get().handle());
    assertThat(compilations).containsEntry(graph(1), 1L);
  }

  @Test
  void aFailureReachesAllWhoWaitAndIsNotKept() throws Exception {
    CountDownLatch compiling = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    GraphCache cache =
        new GraphCache(
            key -> {
              if (compilations.isEmpty()) {
                compilations.put(key, 0L);
                compiling.countDown();
                awaitUninterrupted(go);
                throw new DriverException(Status.COMPILE, "not today");
              }
              return compile(key);
            },
            this::destroy,
            8);
    Background<GraphCache.Program> first = Background.call(() -> cache.acquire(graph(1)));
    compiling.await();
    Background<GraphCache.Program> second =
        Background.call(() -> cache.acquire(graph(1))).untilParked();
    go.countDown();
    for (Background<GraphCache.Program> each : List.of(first, second)) {
      assertThatExceptionOfType(DriverException.class)
          .isThrownBy(each::get)
          .withMessageContaining("not today");
    }
    assertThat(cache.stats().size()).isZero();
    cache.release(cache.acquire(graph(1)));
    cache.close();
    assertThat(live).isEmpty();
  }

  @Test
  void whoIsInterruptedWhileHeWaitsLeavesNoUseBehind() throws Exception {
    CountDownLatch go = new CountDownLatch(1);
    GraphCache cache =
        new GraphCache(
            key -> {
              awaitUninterrupted(go);
              return compile(key);
            },
            this::destroy,
            0);
    Background<GraphCache.Program> first =
        Background.call(() -> cache.acquire(graph(1))).untilParked();
    Background<Boolean> second =
        Background.run(
                () -> {
                  assertThatExceptionOfType(WaitInterruptedException.class)
                      .isThrownBy(() -> cache.acquire(graph(1)));
                  assertThat(Thread.currentThread().isInterrupted()).isTrue();
                })
            .untilParked();
    second.thread().interrupt();
    second.get();
    go.countDown();
    cache.release(first.get());
    assertThat(live).isEmpty();
  }

  @Test
  void aCloseLeavesACompilationToThoseWhoAskedForIt() throws Exception {
    CountDownLatch compiling = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    GraphCache cache = haltedCache(compiling, go);
    Background<GraphCache.Program> first = Background.call(() -> cache.acquire(graph(1)));
    compiling.await();
    Background<GraphCache.Program> second =
        Background.call(() -> cache.acquire(graph(1))).untilParked();
    Background.run(cache::close).get();
    assertThat(second.over()).isFalse();
    go.countDown();
    assertThat(second.get().handle()).isEqualTo(first.get().handle());
    cache.release(first.get());
    assertThat(live).as("still in use").hasSize(1);
    cache.release(second.get());
    assertThat(live).isEmpty();
    assertThat(compilations).containsEntry(graph(1), 1L);
  }

  @Test
  void figuresAndCloseHoldNobodyUp() throws Exception {
    GraphCache cache = cache(1);
    cache.release(cache.acquire(graph(1)));
    assertThat(cache.stats().size()).isEqualTo(1);
    cache.close();
    assertThat(Background.call(cache::stats).get().size()).isZero();
  }

  /** Threads that all begin at once, each asking for graphs in an order of its own. */
  @ParameterizedTest
  @CsvSource({"16, 30, 64", "16, 1, 64", "16, 30, 5", "16, 10, 0"})
  void storms(int threads, int keys, int capacity) throws Exception {
    GraphCache cache = cache(capacity);
    CyclicBarrier start = new CyclicBarrier(threads);
    List<Background<Boolean>> all = new ArrayList<>();
    for (int t = 0; t < threads; t++) {
      int seed = t;
      all.add(
          Background.run(
              () -> {
                List<Integer> order = new ArrayList<>();
                for (int i = 0; i < 50; i++) {
                  order.add(1 + i % keys);
                }
                Collections.shuffle(order, new Random(seed));
                awaitUninterrupted(start);
                for (int size : order) {
                  GraphCache.Program program = cache.acquire(graph(size));
                  assertThat(live).containsEntry(program.handle(), graph(size));
                  cache.release(program);
                }
              }));
    }
    for (Background<Boolean> each : all) {
      each.get();
    }
    GraphCacheStats stats = cache.stats();
    assertThat(stats.hits() + stats.misses()).isEqualTo(50L * threads);
    assertThat(stats.misses()).isEqualTo(handles.get());
    assertThat(stats.size()).isEqualTo(Math.min(keys, capacity)).isEqualTo(live.size());
    assertThat(stats.inUse()).isZero();
    if (keys <= capacity) {
      Map<GraphSpec, Long> once = new HashMap<>();
      for (int size = 1; size <= keys; size++) {
        once.put(graph(size), 1L);
      }
      assertThat(compilations).isEqualTo(once);
      assertThat(stats.evictions()).isZero();
    }
    cache.close();
    assertThat(live).isEmpty();
  }

  private static void awaitUninterrupted(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  private static void awaitUninterrupted(CyclicBarrier barrier) {
    try {
      barrier.await();
    } catch (Exception e) {
      throw new AssertionError(e);
    }
  }
}
