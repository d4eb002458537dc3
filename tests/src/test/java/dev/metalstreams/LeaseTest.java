package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

/** Streams that nobody else has. */
class LeaseTest extends CoreTest {
  private final Script script = Script.immediate();
  private final Device device = open(script, builder -> builder.poolSize(4));
  private final StreamPool pool = device.streams();

  private List<Lease> leaseAll() {
    List<Lease> leases = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      leases.add(pool.lease(Exhaustion.FAIL));
    }
    return leases;
  }

  @Test
  void areExclusiveAndNeverStreamZero() throws Exception {
    Set<Integer> indices = new HashSet<>();
    for (Lease lease : leaseAll()) {
      assertThat(lease.exclusive()).isTrue();
      indices.add(lease.stream().index());
    }
    assertThat(indices).containsExactlyInAnyOrder(1, 2, 3);
    assertThat(Background.call(() -> pool.current().index()).get())
        .as("while all are leased, threads share stream 0")
        .isZero();
    assertThat(pool.next().index()).isZero();
  }

  @Test
  void areNotGivenToThreadsMeanwhile() throws Exception {
    try (Lease lease = pool.lease()) {
      for (int i = 0; i < 6; i++) {
        assertThat(Background.call(() -> pool.current().index()).get())
            .isNotEqualTo(lease.stream().index());
        assertThat(pool.next()).isNotSameAs(lease.stream());
      }
    }
  }

  @Test
  void areNotOfStreamsThatLiveThreadsHave() throws Exception {
    CountDownLatch leave = new CountDownLatch(1);
    CountDownLatch bound = new CountDownLatch(2);
    List<Background<Boolean>> threads = new ArrayList<>();
    for (int i = 0; i < 2; i++) {
      threads.add(
          Background.run(
              () -> {
                pool.current();
                bound.countDown();
                leave.await();
              }));
    }
    bound.await();
    Lease only = pool.lease(Exhaustion.FAIL);
    assertThat(only.stream().index()).isEqualTo(3);
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> pool.lease(Exhaustion.FAIL))
        .withMessageContaining("of 3 streams 1 are leased")
        .withMessageContaining("pool.size");
    leave.countDown();
    for (Background<Boolean> thread : threads) {
      thread.get();
      thread.thread().join();
    }
    try (Lease again = pool.lease(Exhaustion.FAIL)) {
      assertThat(again.exclusive()).as("the dead threads' streams are free").isTrue();
    }
    only.close();
  }

  @Test
  void oversubscribeSharesWhenNoneIsLeft() {
    leaseAll();
    try (Lease shared = pool.lease(Exhaustion.OVERSUBSCRIBE)) {
      assertThat(shared.exclusive()).isFalse();
      assertThat(shared.stream()).isNotNull();
    }
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .as("closing a shared lease frees nobody else's stream")
        .isThrownBy(() -> pool.lease(Exhaustion.FAIL));
  }

  @Test
  void timeoutGivesUpAfterItsTime() {
    leaseAll();
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> pool.lease(Exhaustion.TIMEOUT, Duration.ofMillis(1)))
        .withMessageContaining("within 1 ms");
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> pool.lease(Exhaustion.TIMEOUT, Duration.ZERO));
  }

  @Test
  void waitersGetTheStreamThatIsGivenBack() throws Exception {
    for (Exhaustion policy : List.of(Exhaustion.WAIT, Exhaustion.TIMEOUT)) {
      List<Lease> leases = leaseAll();
      DeviceStream freed = leases.get(1).stream();
      Background<Lease> waiter =
          Background.call(() -> pool.lease(policy, Duration.ofHours(1))).untilParked();
      assertThat(waiter.over()).isFalse();
      leases.get(1).close();
      Lease got = waiter.get();
      assertThat(got.exclusive()).isTrue();
      assertThat(got.stream()).isSameAs(freed);
      got.close();
      leases.forEach(Lease::close);
    }
  }

  @Test
  void waitersGetTheStreamOfAThreadThatReleasesOrDies() throws Exception {
    leaseAll().get(2).close(); // one stream is free for the thread
    CountDownLatch release = new CountDownLatch(1);
    CountDownLatch die = new CountDownLatch(1);
    Background<Boolean> holder =
        Background.run(
            () -> {
              pool.current();
              release.await();
              pool.releaseCurrentThread();
              pool.current();
              die.await();
            });
    holder.untilParked();
    Background<Lease> first = Background.call(() -> pool.lease(Exhaustion.WAIT)).untilParked();
    release.countDown();
    holder.untilParked();
    die.countDown();
    holder.get();
    first.get().close();
  }

  @Test
  void waitersHearAnInterrupt() throws Exception {
    leaseAll();
    Background<Boolean> waiter =
        Background.run(
                () -> {
                  assertThatExceptionOfType(WaitInterruptedException.class)
                      .isThrownBy(() -> pool.lease(Exhaustion.WAIT));
                  assertThat(Thread.currentThread().isInterrupted()).isTrue();
                })
            .untilParked();
    waiter.thread().interrupt();
    waiter.get();
  }

  @Test
  void waitersHearTheClose() throws Exception {
    leaseAll();
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(DeviceClosedException.class)
                        .isThrownBy(() -> pool.lease(Exhaustion.WAIT)))
            .untilParked();
    device.close();
    waiter.get();
  }

  @Test
  void closeOnceHoweverOften() {
    Lease lease = pool.lease(Exhaustion.FAIL);
    DeviceStream stream = lease.stream();
    lease.close();
    List<Lease> others = leaseAll();
    lease.close(); // must not give back what someone else has now
    assertThatExceptionOfType(StreamPoolExhaustedException.class)
        .isThrownBy(() -> pool.lease(Exhaustion.FAIL));
    assertThat(others).extracting(Lease::stream).contains(stream);
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(lease::stream)
        .withMessageContaining("closed");
  }

  @Test
  void passBetweenThreads() throws Exception {
    Lease lease = pool.lease();
    Background.run(lease::close).get();
    assertThat(leaseAll()).hasSize(3);
  }

  @Test
  void followThePolicyOfTheDevice() {
    Device strict =
        open(
            Script.immediate(),
            builder ->
                builder
                    .poolSize(2)
                    .exhaustion(Exhaustion.TIMEOUT)
                    .exhaustionTimeout(Duration.ofMillis(2)));
    try (Lease only = strict.streams().lease()) {
      assertThat(only.exclusive()).isTrue();
      assertThatExceptionOfType(StreamPoolExhaustedException.class)
          .isThrownBy(() -> strict.streams().lease())
          .withMessageContaining("within 2 ms");
    }
  }

  @Test
  void areNotLostWhenTheStreamCannotBeMade() {
    script.refuse("createQueue", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> pool.lease(Exhaustion.FAIL));
    assertThat(leaseAll()).hasSize(3);
  }

  @Test
  void doNotMakeTheirStreamCurrent() {
    try (Lease lease = pool.lease()) {
      assertThat(pool.current()).isNotSameAs(lease.stream());
      pool.runWith(lease.stream(), () -> assertThat(pool.current()).isSameAs(lease.stream()));
    }
  }
}
