package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.script.Script;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import org.jetbrains.lincheck.Lincheck;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * What threads share through core, in many interleavings chosen by a model checker: streams that
 * are assigned or leased, events that several wait for, programs that are compiled once and
 * destroyed after their last user. Next to each stands a twin that is broken in a way only some
 * interleavings show.
 */
@Timeout(300)
class SharingInterleavingTest {
  /** How many interleavings are explored. */
  private static final int INVOCATIONS = 50;

  /** In how many a twin must be caught; most are within the first ten. */
  private static final int INVOCATIONS_OF_A_TWIN = 2000;

  /** What threads share: the model checker follows what a static field leads to. */
  @SuppressWarnings("UnusedVariable") // written for the model checker's eyes
  private static volatile List<Object> shared = List.of();

  /** A thread that the model checker does not know would take locks behind its back. */
  private static final Parts WITHOUT_HOUSEKEEPING =
      new Parts() {
        @Override
        boolean completionThread() {
          return false;
        }
      };

  private interface Scenario {
    void run() throws InterruptedException;
  }

  private static void explore(Scenario scenario) {
    explore(INVOCATIONS, scenario);
  }

  private static void exploreTwin(Scenario scenario) {
    explore(INVOCATIONS_OF_A_TWIN, scenario);
  }

  private static void explore(int invocations, Scenario scenario) {
    Lincheck.runConcurrentTest(
        invocations,
        () -> {
          try {
            scenario.run();
          } catch (InterruptedException e) {
            throw new AssertionError(e);
          }
        });
  }

  @AfterEach
  void shareNothing() {
    shared = List.of();
  }

  // ---- pool and leases

  /** A pool with one stream beside stream 0. */
  private interface Pool {
    /** The calling thread's own stream. */
    int assign();

    /** Takes the calling thread's own stream away. */
    void release();

    /** A stream for the caller alone, or -1. */
    int lease();

    void giveBack(int index);
  }

  /** The shipped pool of a device whose streams are made already. */
  private static final class Shipped implements Pool {
    private final StreamPool pool;
    private final Map<Thread, Lease> leases = new HashMap<>();

    Shipped(StreamPool pool) {
      this.pool = pool;
    }

    @Override
    public int assign() {
      return pool.current().index();
    }

    @Override
    public void release() {
      pool.releaseCurrentThread();
    }

    @Override
    public int lease() {
      try {
        Lease lease = pool.lease(Exhaustion.FAIL);
        synchronized (leases) {
          leases.put(Thread.currentThread(), lease);
        }
        return lease.stream().index();
      } catch (StreamPoolExhaustedException e) {
        return -1;
      }
    }

    @Override
    public void giveBack(int index) {
      Lease mine;
      synchronized (leases) {
        mine = leases.remove(Thread.currentThread());
      }
      if (mine != null) {
        mine.close();
      }
    }
  }

  /** Looks for a stream without the lock under which it takes it. */
  private static final class LooksWithoutTheLock implements Pool {
    private final ReentrantLock lock = new ReentrantLock();
    private volatile int bound;
    private volatile boolean leased;

    @Override
    public int assign() {
      lock.lock();
      try {
        if (leased) {
          return 0;
        }
        bound = 1;
        return 1;
      } finally {
        lock.unlock();
      }
    }

    @Override
    public void release() {
      lock.lock();
      try {
        bound = 0;
      } finally {
        lock.unlock();
      }
    }

    @Override
    public int lease() {
      if (leased || bound > 0) {
        return -1;
      }
      lock.lock();
      try {
        leased = true;
        return 1;
      } finally {
        lock.unlock();
      }
    }

    @Override
    public void giveBack(int index) {
      leased = false;
    }
  }

  /** Who uses stream 1 at the moment, as its users say. */
  private static void use(AtomicInteger users, AtomicInteger together) {
    if (users.incrementAndGet() > 1) {
      together.incrementAndGet();
    }
    users.decrementAndGet();
  }

  private static void nobodySharesALeasedStream(Pool pool) throws InterruptedException {
    AtomicInteger users = new AtomicInteger();
    AtomicInteger together = new AtomicInteger();
    shared = List.of(pool, users, together);
    Thread worker =
        new Thread(
            () -> {
              if (pool.assign() == 1) {
                use(users, together);
              }
              pool.release();
            });
    worker.start();
    int index = pool.lease();
    if (index == 1) {
      use(users, together);
      pool.giveBack(1);
    }
    worker.join();
    if (index == 0 || together.get() != 0) {
      throw new AssertionError("a leased stream is shared: " + index);
    }
  }

  private static void oneLeaseAtATime(Pool pool) throws InterruptedException {
    AtomicInteger users = new AtomicInteger();
    AtomicInteger together = new AtomicInteger();
    shared = List.of(pool, users, together);
    Runnable lessee =
        () -> {
          if (pool.lease() == 1) {
            use(users, together);
            pool.giveBack(1);
          }
        };
    Thread other = new Thread(lessee);
    other.start();
    lessee.run();
    other.join();
    if (together.get() != 0) {
      throw new AssertionError("one stream is leased twice");
    }
  }

  private interface PoolScenario {
    void run(Pool pool) throws InterruptedException;
  }

  private static void exploreShipped(PoolScenario scenario) {
    try (Device device =
        Device.builder()
            .driver(Script.automatic().provider())
            .poolSize(2)
            .parts(WITHOUT_HOUSEKEEPING)
            .open()) {
      StreamPool pool = device.streams();
      pool.stream(0);
      pool.stream(1);
      explore(() -> scenario.run(new Shipped(pool)));
    }
  }

  @Test
  void aLeasedStreamIsNobodysOwn() {
    exploreShipped(SharingInterleavingTest::nobodySharesALeasedStream);
  }

  @Test
  void aPoolThatLooksWithoutTheLockIsCaughtSharing() {
    assertThatThrownBy(
            () -> exploreTwin(() -> nobodySharesALeasedStream(new LooksWithoutTheLock())))
        .hasMessageContaining("a leased stream is shared");
  }

  @Test
  void aStreamIsLeasedOnce() {
    exploreShipped(SharingInterleavingTest::oneLeaseAtATime);
  }

  @Test
  void aPoolThatLooksWithoutTheLockIsCaughtLeasingTwice() {
    assertThatThrownBy(() -> exploreTwin(() -> oneLeaseAtATime(new LooksWithoutTheLock())))
        .hasMessageContaining("leased twice");
  }

  // ---- event waits

  /** Wakes who waits for a value before it counts as completed. */
  private static final class WakesBeforeItCompletes extends Timeline {
    private boolean woken;

    WakesBeforeItCompletes(Driver driver) {
      super(driver, 1, "stream 0", 0, 0, new Polling(0));
    }

    @Override
    void complete(long value, GpuTimes times, @Nullable StreamFailedException failure) {
      super.wakeReached();
      woken = true;
      super.complete(value, times, failure);
      woken = false;
    }

    @Override
    void wakeReached() {
      if (!woken) {
        super.wakeReached();
      }
    }
  }

  /** One waits for value 1, one for value 2; both are completed, one after the other. */
  private static void eachWaiterRunsOnce(Timeline timeline) throws InterruptedException {
    AtomicInteger first = new AtomicInteger();
    AtomicInteger second = new AtomicInteger();
    AtomicInteger early = new AtomicInteger();
    shared = List.of(timeline, first, second, early);
    timeline.submitted(1);
    timeline.submitted(2);
    Thread waiter =
        new Thread(
            () -> {
              timeline.whenReached(
                  2,
                  () -> {
                    second.incrementAndGet();
                    if (timeline.completed() < 2) {
                      early.incrementAndGet();
                    }
                  });
              timeline.whenReached(1, first::incrementAndGet);
            });
    waiter.start();
    timeline.complete(1, new Timeline.GpuTimes(1, 2), null);
    timeline.complete(2, new Timeline.GpuTimes(2, 3), null);
    waiter.join();
    if (first.get() != 1 || second.get() != 1 || early.get() != 0) {
      throw new AssertionError(
          "ran " + first.get() + " and " + second.get() + " times, early " + early.get());
    }
  }

  @Test
  void everyWaitForAnEventEndsOnceAndNotEarly() {
    Driver driver = Script.manual().driver();
    explore(() -> eachWaiterRunsOnce(new Timeline(driver, 1, "stream 0", 0, 0, new Polling(0))));
  }

  @Test
  void aTimelineThatForgetsAWaiterIsCaught() {
    Driver driver = Script.manual().driver();
    assertThatThrownBy(
            () -> exploreTwin(() -> eachWaiterRunsOnce(new WakesBeforeItCompletes(driver))))
        .hasMessageContaining("ran ");
  }

  // ---- compiled graphs

  /** What users do with a cache of compiled graphs that keeps nothing unused. */
  private interface Cache {
    long acquire();

    void release();
  }

  private static final class ShippedCache implements Cache {
    private final GraphSpec key;
    private final GraphCache cache;
    private final Map<Thread, GraphCache.Program> programs = new HashMap<>();

    ShippedCache(GraphSpec key, Compiler compiler) {
      this.key = key;
      this.cache = new GraphCache(spec -> compiler.compile(), compiler::destroy, 0);
    }

    @Override
    public long acquire() {
      GraphCache.Program program = cache.acquire(key);
      synchronized (programs) {
        programs.put(Thread.currentThread(), program);
      }
      return program.handle();
    }

    @Override
    public void release() {
      GraphCache.Program mine;
      synchronized (programs) {
        mine = programs.remove(Thread.currentThread());
      }
      if (mine != null) {
        cache.release(mine);
      }
    }
  }

  /** Counts its users outside the lock that guards the map. */
  private static final class CountsOutsideTheLock implements Cache {
    private final Compiler compiler;
    private final ReentrantLock lock = new ReentrantLock();
    private final AtomicInteger users = new AtomicInteger();
    private volatile long handle;

    CountsOutsideTheLock(Compiler compiler) {
      this.compiler = compiler;
    }

    @Override
    public long acquire() {
      long mine;
      lock.lock();
      try {
        if (handle == 0) {
          handle = compiler.compile();
        }
        mine = handle;
      } finally {
        lock.unlock();
      }
      users.incrementAndGet();
      return mine;
    }

    @Override
    public void release() {
      if (users.decrementAndGet() == 0) {
        lock.lock();
        try {
          compiler.destroy(handle);
          handle = 0;
        } finally {
          lock.unlock();
        }
      }
    }
  }

  /** Gives handles 1, 2, …, and knows which of them live. */
  private static final class Compiler {
    private final AtomicLong handles = new AtomicLong();
    private final AtomicLong live = new AtomicLong();
    private final AtomicInteger mistakes = new AtomicInteger();

    long compile() {
      long handle = handles.incrementAndGet();
      live.accumulateAndGet(1L << handle, (all, bit) -> all | bit);
      return handle;
    }

    void destroy(long handle) {
      long before = live.getAndUpdate(all -> all & ~(1L << handle));
      if ((before & (1L << handle)) == 0) {
        mistakes.incrementAndGet();
      }
    }

    void use(long handle) {
      if ((live.get() & (1L << handle)) == 0) {
        mistakes.incrementAndGet();
      }
    }
  }

  /** One user leaves while another comes. */
  private static void programsLiveAsLongAsTheirUsers(Cache cache, Compiler compiler)
      throws InterruptedException {
    shared = List.of(cache, compiler);
    long mine = cache.acquire();
    Thread other =
        new Thread(
            () -> {
              compiler.use(cache.acquire());
              cache.release();
            });
    other.start();
    compiler.use(mine);
    cache.release();
    other.join();
    if (compiler.mistakes.get() != 0 || compiler.live.get() != 0) {
      throw new AssertionError(
          compiler.mistakes.get() + " uses of what is destroyed, left " + compiler.live.get());
    }
  }

  private static GraphSpec graph() {
    return Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 4);
              g.output("y", g.add(x, x));
            })
        .spec();
  }

  @Test
  void aProgramLivesAsLongAsItsUsers() {
    GraphSpec key = graph();
    explore(
        () -> {
          Compiler compiler = new Compiler();
          programsLiveAsLongAsTheirUsers(new ShippedCache(key, compiler), compiler);
        });
  }

  @Test
  void aCacheThatCountsOutsideTheLockIsCaught() {
    assertThatThrownBy(
            () ->
                exploreTwin(
                    () -> {
                      Compiler compiler = new Compiler();
                      programsLiveAsLongAsTheirUsers(new CountsOutsideTheLock(compiler), compiler);
                    }))
        .hasMessageContaining("uses of what is destroyed");
  }
}
