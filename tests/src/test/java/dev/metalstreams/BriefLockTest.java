package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.script.Script;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * One holder at a time, also when holders lose their processor; and it is given back in any case.
 */
@Timeout(60)
class BriefLockTest {
  private static final int THREADS = 4;
  private static final int ROUNDS = 500;

  /** What is done with a lock. */
  private interface Lock {
    void lock();

    void unlock();
  }

  private static Lock shipped() {
    BriefLock lock = new BriefLock();
    return new Lock() {
      @Override
      public void lock() {
        lock.lock();
      }

      @Override
      public void unlock() {
        lock.unlock();
      }
    };
  }

  /** Looks whether it is free and takes it, in two steps. */
  private static final class LooksThenTakes implements Lock {
    private volatile boolean held;

    @Override
    @SuppressWarnings("ThreadPriorityCheck")
    public void lock() {
      while (held) {
        Thread.yield();
      }
      Thread.yield();
      held = true;
    }

    @Override
    public void unlock() {
      held = false;
    }
  }

  /** Two plain fields that only a holder touches. */
  private static final class Counted {
    private long first;
    private long second;

    /** Every holder may lose its processor half way. */
    @SuppressWarnings("ThreadPriorityCheck")
    void add() {
      long before = first;
      Thread.yield();
      first = before + 1;
      second++;
    }
  }

  /** How many of the threads' additions are lost. */
  private static long lost(Lock lock) throws InterruptedException {
    Counted counted = new Counted();
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < THREADS; i++) {
      threads.add(
          Thread.ofPlatform()
              .start(
                  () -> {
                    for (int round = 0; round < ROUNDS; round++) {
                      lock.lock();
                      try {
                        counted.add();
                      } finally {
                        lock.unlock();
                      }
                    }
                  }));
    }
    for (Thread thread : threads) {
      thread.join();
    }
    return 2L * THREADS * ROUNDS - counted.first - counted.second;
  }

  @Test
  void nothingIsLost() throws InterruptedException {
    assertThat(lost(shipped())).isZero();
  }

  /** Also after many looks it takes no processor from a holder that has lost its own. */
  @Test
  void whoWaitsLongSleepsBetweenLooks() throws Exception {
    BriefLock lock = new BriefLock();
    lock.lock();
    Background<Boolean> waiter = Background.run(lock::lock);
    long id = waiter.thread().threadId();
    ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    while (threads.getThreadInfo(id).getWaitedCount() < 200) {
      Thread.onSpinWait();
    }
    lock.unlock();
    waiter.get();
    assertThat(lock.free()).as("the waiter has it").isFalse();
  }

  /** The twin runs until it is seen. */
  @Test
  void aLockThatLooksThenTakesIsCaught() throws InterruptedException {
    long lost = 0;
    while (lost == 0) {
      lost = lost(new LooksThenTakes());
    }
    assertThat(lost).isPositive();
  }

  // ---- what is called under the lock throws

  /** An allocator whose rules throw once they are to. */
  private static final class Throwing extends Allocator {
    private boolean throwing;

    Throwing(Device device) {
      super(device);
    }

    private void fail() {
      if (throwing) {
        throw new IllegalStateException("planted");
      }
    }

    @Override
    boolean reusable(Uses uses) {
      fail();
      return super.reusable(uses);
    }

    @Override
    boolean unused(Uses uses) {
      fail();
      return super.unused(uses);
    }
  }

  /** A cache with a block in use and a free one. */
  record Held(Allocator allocator, StreamCache cache, Tenancy tenancy, Block free) {}

  private static Stream<Named<Consumer<Held>>> calls() {
    return Stream.of(
        call("take", held -> held.cache.take(held.free.sizeClass, 1, true)),
        call("close", held -> held.cache.close(held.tenancy, true)),
        call("outstanding", held -> held.cache.outstanding()),
        call("idle", held -> held.cache.idle(new ArrayList<>())),
        call("takeOut", held -> held.cache.takeOut(held.free)),
        call(
            "steal",
            held ->
                held.cache.steal(
                    held.free.sizeClass,
                    each -> {
                      throw new IllegalStateException("planted");
                    })),
        call("adopt a block that is in use", held -> held.cache.adopt(held.tenancy.block, 1)),
        call("put back a block that is in use", held -> held.cache.putBack(held.tenancy.block)));
  }

  private static Held held(Allocator allocator, StreamCache cache) {
    DeviceStream stream = cache.stream();
    Tenancy tenancy = cache.adopt(block(1, stream), 1).tenancy();
    Block free = block(2, stream);
    cache.close(cache.adopt(free, 1).tenancy(), true);
    return new Held(allocator, cache, tenancy, free);
  }

  private static Named<Consumer<Held>> call(String name, Consumer<Held> call) {
    return Named.of(name, call);
  }

  @ParameterizedTest
  @MethodSource("calls")
  void itIsGivenBackWhenWhatIsCalledThrows(Consumer<Held> call) {
    try (Device device = Device.builder().driver(Script.automatic().provider()).open()) {
      DeviceStream stream = device.streams().stream(1);
      Throwing allocator = new Throwing(device);
      StreamCache cache = allocator.cache(stream);
      BriefLock lock = allocator.ledger().pages.getLast().lock;
      Held held = held(allocator, cache);
      allocator.throwing = true;
      assertThatThrownBy(() -> call.accept(held)).isInstanceOf(IllegalStateException.class);
      assertThat(lock.free()).isTrue();
    }
  }

  // ---- what is guarded by it

  private static Stream<Named<Consumer<Held>>> guarded() {
    return Stream.of(
        call("take", held -> held.cache.take(held.free.sizeClass, 1, false)),
        call("adopt", held -> held.cache.adopt(block(3, held.cache.stream()), 1)),
        call("close", held -> held.cache.close(held.tenancy, true)),
        call("outstanding", held -> held.cache.outstanding()),
        call("steal", held -> held.cache.steal(held.free.sizeClass, each -> true)),
        call("idle", held -> held.cache.idle(new ArrayList<>())),
        call("take out", held -> held.cache.takeOut(held.free)),
        call("put back", held -> held.cache.putBack(block(3, held.cache.stream()))),
        call("end", held -> held.cache.end()),
        call("open", held -> held.cache.open()),
        call("describe", held -> held.cache.describe(new ArrayList<>())),
        call("read", held -> held.allocator.ledger().read()),
        call("cover", held -> held.allocator.ledger().cover(held.allocator.ledger().pages.get(1))),
        call(
            "gather",
            held -> held.allocator.ledger().gather(0, 1, held.allocator.ledger().pages.get(0))),
        call("reset the peaks", held -> held.allocator.ledger().resetPeak()));
  }

  @ParameterizedTest
  @MethodSource("guarded")
  void nothingPassesItWhileItIsHeld(Consumer<Held> call) throws Exception {
    try (Device device = Device.builder().driver(Script.automatic().provider()).open()) {
      DeviceStream stream = device.streams().stream(1);
      Allocator allocator = new Allocator(device);
      StreamCache cache = allocator.cache(stream);
      BriefLock lock = allocator.ledger().pages.getLast().lock;
      Held held = held(allocator, cache);
      lock.lock();
      Background<Boolean> caller = Background.run(() -> call.accept(held)).untilParked();
      boolean passed = caller.over();
      lock.unlock();
      caller.get();
      assertThat(passed).isFalse();
      assertThat(lock.free()).isTrue();
    }
  }

  interface UseOf {
    void of(Uses uses, DeviceStream owner, DeviceStream other);
  }

  private static Named<UseOf> use(String name, UseOf call) {
    return Named.of(name, call);
  }

  private static Stream<Named<UseOf>> uses() {
    return Stream.of(
        use("add", (uses, owner, other) -> uses.add(other, 1)),
        use("record", (uses, owner, other) -> uses.record(owner)),
        use("close", (uses, owner, other) -> uses.close()),
        use("ask whether others have passed", (uses, owner, other) -> uses.othersPassed()),
        use("forget the others", (uses, owner, other) -> uses.forgetOthers()),
        use("move", (uses, owner, other) -> uses.moveTo(other, 0)),
        use("count", (uses, owner, other) -> uses.outstanding()),
        use("await", (uses, owner, other) -> uses.await()));
  }

  @ParameterizedTest
  @MethodSource("uses")
  void noUsePassesItWhileItIsHeld(UseOf call) throws Exception {
    try (Device device = Device.builder().driver(Script.automatic().provider()).open()) {
      DeviceStream owner = device.streams().stream(1);
      DeviceStream other = device.streams().stream(2);
      Uses uses = new Uses(owner);
      uses.record(other); // shared
      uses.lock.lock();
      Background<Boolean> caller = Background.run(() -> call.of(uses, owner, other)).untilParked();
      boolean passed = caller.over();
      uses.lock.unlock();
      caller.get();
      assertThat(passed).isFalse();
      assertThat(uses.lock.free()).isTrue();
    }
  }

  private static Block block(long id, DeviceStream stream) {
    int sizeClass = SizeClasses.of(1);
    return new Block(id, id, SizeClasses.size(sizeClass), sizeClass, stream);
  }
}
