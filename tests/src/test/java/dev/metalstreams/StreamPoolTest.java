package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.TestInstance.Lifecycle;

/** Which stream a thread gets. */
@TestInstance(Lifecycle.PER_METHOD)
class StreamPoolTest extends CoreTest {
  private final Script script = Script.immediate();
  private final Device device = open(script);
  private final StreamPool pool = device.streams();

  private DeviceStream currentOf(Thread.Builder builder) throws Exception {
    List<DeviceStream> seen = Collections.synchronizedList(new ArrayList<>());
    Thread thread = builder.start(() -> seen.add(pool.current()));
    thread.join();
    return seen.getFirst();
  }

  @Test
  void hasThirtyTwoStreamsThatAreMadeWhenFirstUsed() {
    assertThat(pool.size()).isEqualTo(32);
    assertThat(pool.created()).isZero();
    assertThat(script.queues()).isEmpty();
    DeviceStream seventh = pool.stream(7);
    assertThat(seventh.index()).isEqualTo(7);
    assertThat(seventh.device()).isSameAs(device);
    assertThat(pool.stream(7)).isSameAs(seventh);
    assertThat(pool.created()).isEqualTo(1);
    assertThat(script.queues()).containsExactly(seventh.id());
  }

  @Test
  void givesTheOwnerStreamZero() {
    assertThat(pool.current().index()).isZero();
    assertThat(pool.current()).isSameAs(pool.current());
    pool.releaseCurrentThread();
    assertThat(pool.current().index()).isZero();
  }

  @Test
  void givesOthersTheirOwnInTurn() throws Exception {
    for (int i = 1; i <= 31; i++) {
      assertThat(currentOf(Thread.ofPlatform()).index()).isEqualTo(i);
    }
    assertThat(currentOf(Thread.ofPlatform()).index()).as("the 32nd shares").isEqualTo(1);
    Background.run(() -> assertThat(pool.current()).as("and keeps it").isSameAs(pool.current()))
        .get();
    assertThat(pool.created()).isEqualTo(31);
  }

  @Test
  void givesThirtyOneWorkersThirtyOneStreams() throws Exception {
    Set<DeviceStream> seen = ConcurrentHashMap.newKeySet();
    CyclicBarrier together = new CyclicBarrier(31);
    List<Background<Boolean>> workers = new ArrayList<>();
    for (int i = 0; i < 31; i++) {
      workers.add(
          Background.run(
              () -> {
                together.await();
                DeviceStream mine = pool.current();
                assertThat(pool.current()).isSameAs(mine);
                seen.add(mine);
              }));
    }
    for (Background<Boolean> worker : workers) {
      worker.get();
    }
    assertThat(seen)
        .extracting(DeviceStream::index)
        .containsExactlyInAnyOrderElementsOf(IntStream.rangeClosed(1, 31).boxed().toList());
    assertThat(seen).extracting(DeviceStream::id).doesNotHaveDuplicates();
    assertThat(seen).extracting(DeviceStream::id).as("0 names none").allMatch(id -> id > 0);
    Background<DeviceStream> another = Background.call(pool::current);
    assertThat(seen).as("the 32nd shares").contains(another.get());
  }

  @Test
  void sharesStreamsAmongManyThreads() throws Exception {
    Device small = open(Script.immediate(), builder -> builder.poolSize(3));
    int[] counts = new int[3];
    for (int i = 0; i < 10; i++) {
      counts[Background.call(() -> small.streams().current().index()).get()]++;
    }
    assertThat(counts).containsExactly(0, 5, 5);
  }

  @Test
  void aPoolOfOneGivesItsStreamToAll() throws Exception {
    Device single = open(Script.immediate(), builder -> builder.poolSize(1));
    assertThat(single.streams().current().index()).isZero();
    assertThat(Background.call(() -> single.streams().current().index()).get()).isZero();
    assertThat(single.streams().next().index()).isZero();
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> single.streams().lease(Exhaustion.FAIL));
    try (Lease shared = single.streams().lease(Exhaustion.OVERSUBSCRIBE)) {
      assertThat(shared.exclusive()).isFalse();
      assertThat(shared.stream().index()).isZero();
    }
  }

  @Test
  void treatsVirtualThreadsLikeAnyOther() throws Exception {
    assertThat(currentOf(Thread.ofVirtual()).index()).isEqualTo(1);
    assertThat(currentOf(Thread.ofVirtual()).index()).isEqualTo(2);
    Set<DeviceStream> seen = ConcurrentHashMap.newKeySet();
    CountDownLatch all = new CountDownLatch(20);
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      threads.add(
          Thread.startVirtualThread(
              () -> {
                seen.add(pool.current());
                all.countDown();
                try {
                  all.await(); // all share few carriers, none may share a stream
                } catch (InterruptedException e) {
                  throw new AssertionError(e);
                }
                seen.add(pool.current());
              }));
    }
    for (Thread thread : threads) {
      thread.join();
    }
    assertThat(seen).hasSize(20);
  }

  @Test
  void nextGoesRoundWithoutBindingAnyone() {
    assertThat(IntStream.range(0, 33).map(i -> pool.next().index()))
        .containsExactlyElementsOf(
            IntStream.concat(IntStream.rangeClosed(1, 31), IntStream.of(1, 2)).boxed().toList());
    assertThat(pool.current().index()).isZero();
    assertThat(pool.liveBindings()).isZero();
  }

  @Test
  void aLeasedStreamCannotBeAThreadsOwn() {
    DeviceStream own = pool.current();
    try (Lease lease = pool.lease(Exhaustion.FAIL)) {
      DeviceStream leased = lease.stream();
      assertThatThrownBy(() -> pool.setCurrent(leased))
          .isInstanceOf(IllegalStateException.class)
          .hasMessage("stream 1 is leased and cannot be a thread's own; use callWith");
      assertThat(pool.current()).isSameAs(own);
      assertThat(pool.callWith(leased, pool::current)).isSameAs(leased);
    }
    pool.setCurrent(pool.stream(1));
    assertThat(pool.current().index()).isEqualTo(1);
    pool.releaseCurrentThread();
  }

  @Test
  void setCurrentReplacesTheThreadsOwn() throws Exception {
    DeviceStream chosen = pool.stream(9);
    pool.setCurrent(chosen);
    assertThat(pool.current()).isSameAs(chosen);
    assertThat(Background.call(pool::current).get()).isNotSameAs(chosen);
    pool.setCurrent(pool.stream(4));
    assertThat(pool.current().index()).isEqualTo(4);
    pool.releaseCurrentThread();
    assertThat(pool.current().index()).isZero();
    pool.releaseCurrentThread();
    pool.releaseCurrentThread();
  }

  @Test
  void releasingGivesTheNextInTurn() throws Exception {
    Background.run(
            () -> {
              assertThat(pool.current().index()).isEqualTo(1);
              pool.releaseCurrentThread();
              assertThat(pool.current().index()).isEqualTo(2);
              assertThat(pool.liveBindings()).isEqualTo(1);
            })
        .get();
  }

  @Test
  void callWithNestsAndEndsWithItsScope() {
    DeviceStream outer = pool.stream(5);
    DeviceStream inner = pool.stream(6);
    List<DeviceStream> ran = new ArrayList<>();
    String result =
        pool.callWith(
            outer,
            () -> {
              assertThat(pool.current()).isSameAs(outer);
              pool.runWith(inner, () -> ran.add(pool.current()));
              assertThat(ran).containsExactly(inner);
              assertThat(pool.current()).isSameAs(outer);
              pool.setCurrent(inner);
              assertThat(pool.current()).as("the scope wins").isSameAs(outer);
              return "done";
            });
    assertThat(result).isEqualTo("done");
    assertThat(pool.current()).isSameAs(inner);
    assertThatExceptionOfType(java.io.IOException.class)
        .isThrownBy(
            () ->
                pool.callWith(
                    outer,
                    () -> {
                      throw new java.io.IOException("checked");
                    }));
    assertThat(pool.current()).isSameAs(inner);
  }

  @Test
  void callWithHoldsForItsThreadAlone() throws Exception {
    DeviceStream outer = pool.stream(5);
    Background<DeviceStream> other =
        pool.callWith(
            outer,
            () -> {
              Background<DeviceStream> thread = Background.call(pool::current);
              thread.untilParked();
              return thread;
            });
    assertThat(other.get()).isNotSameAs(outer);
  }

  @Test
  void makesAStreamOnceEvenIfAllAskAtOnce() throws Exception {
    CyclicBarrier together = new CyclicBarrier(8);
    Set<DeviceStream> seen = ConcurrentHashMap.newKeySet();
    List<Background<Boolean>> askers = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      askers.add(
          Background.run(
              () -> {
                together.await();
                for (int index = 0; index < 32; index++) {
                  seen.add(pool.stream(index));
                }
              }));
    }
    for (Background<Boolean> asker : askers) {
      asker.get();
    }
    assertThat(seen).hasSize(32);
    assertThat(script.queues()).hasSize(32);
  }

  @Test
  void aRefusedQueueLosesNothing() {
    script.refuse("createQueue", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> pool.current())
        .withMessageContaining("stream 0");
    assertThat(pool.created()).isZero();
    assertThat(pool.liveBindings()).isZero();
    assertThat(pool.current().index()).isZero();
  }

  @Test
  void aRefusedQueueLeavesNobodyBoundToIt() throws Exception {
    script.refuse("createQueue", 1, Status.OUT_OF_MEMORY);
    Background.run(
            () -> {
              assertThatExceptionOfType(OutOfDeviceMemoryException.class)
                  .isThrownBy(() -> pool.current());
              assertThat(pool.liveBindings()).isZero(); // while this thread lives
            })
        .get();
  }

  @Test
  void whoReleasesAStreamTakesItFromNobodyElse() throws Exception {
    Device small = open(Script.immediate(), builder -> builder.poolSize(2));
    CountDownLatch leave = new CountDownLatch(1);
    Background<Boolean> stays =
        Background.run(
                () -> {
                  assertThat(small.streams().current().index()).isEqualTo(1);
                  leave.await();
                })
            .untilParked();
    Background.run(
            () -> {
              assertThat(small.streams().current().index()).isEqualTo(1);
              small.streams().releaseCurrentThread();
            })
        .get();
    assertThat(small.streams().liveBindings()).isEqualTo(1);
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> small.streams().lease(Exhaustion.FAIL));
    leave.countDown();
    stays.get();
  }

  @Test
  void threadsThatDiedLeaveNothingBehind() throws Exception {
    for (int i = 0; i < 200; i++) {
      currentOf(Thread.ofVirtual());
    }
    assertThat(pool.liveBindings()).isZero();
  }

  @Test
  void devicesHavePoolsOfTheirOwn() {
    Device other = open(Script.immediate());
    pool.setCurrent(pool.stream(3));
    assertThat(other.streams().current().index()).isZero();
    assertThat(other.streams().current().device()).isSameAs(other);
    DeviceStream foreign = other.streams().stream(3);
    for (Background.Work use :
        List.<Background.Work>of(
            () -> pool.setCurrent(foreign),
            () -> pool.callWith(foreign, () -> "not run"),
            () -> pool.runWith(foreign, () -> {}))) {
      assertThatThrownBy(use::run)
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("another device");
    }
    assertThat(pool.current()).isSameAs(pool.stream(3));
  }

  @Test
  void passesOverStreamsThatHaveFailed() throws Exception {
    DeviceStream failed = pool.stream(2);
    fail(failed);
    for (int i = 0; i < 2 * pool.size(); i++) {
      assertThat(pool.next()).isNotSameAs(failed);
      assertThat(Background.call(pool::current).get()).isNotSameAs(failed);
      try (Lease lease = pool.lease(Exhaustion.FAIL)) {
        assertThat(lease.stream()).isNotSameAs(failed);
      }
    }
    failed.reset();
    Set<DeviceStream> again = new HashSet<>();
    for (int i = 0; i < pool.size(); i++) {
      again.add(pool.next());
    }
    assertThat(again).contains(failed);
  }

  @Test
  void givesAFailedStreamWhereThereIsNoOther() {
    for (int i = 1; i < pool.size(); i++) {
      fail(pool.stream(i));
    }
    assertThat(pool.next().failure()).isPresent();
    assertThat(pool.next().index()).isNotZero();
    try (Lease lease = pool.lease(Exhaustion.FAIL)) {
      lease.stream().reset();
      assertThat(pool.next()).as("leased").isNotSameAs(lease.stream());
    }
  }

  private void fail(DeviceStream stream) {
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    try (DeviceBuffer buffer = device.allocate(8, stream)) {
      stream.fill(buffer, (byte) 1);
    }
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(stream::synchronize);
  }

  @Test
  void isOfNoUseAfterTheClose() {
    Set<DeviceStream> before = new HashSet<>(Set.of(pool.current(), pool.stream(2)));
    device.close();
    assertThat(pool.created()).isEqualTo(before.size());
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> pool.stream(3));
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> pool.lease());
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> pool.current());
    DeviceStream mine = before.iterator().next();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> pool.setCurrent(mine));
    assertThatExceptionOfType(DeviceClosedException.class)
        .isThrownBy(() -> pool.runWith(mine, () -> {}));
    assertThatExceptionOfType(DeviceClosedException.class)
        .isThrownBy(() -> Background.call(pool::current).get());
  }
}
