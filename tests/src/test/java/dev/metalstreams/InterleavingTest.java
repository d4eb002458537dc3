package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.script.Script;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.jetbrains.lincheck.Lincheck;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * The lock-free protocols that everything rests on, in many interleavings of their memory accesses,
 * chosen by a model checker: a lifetime frees once and never under a user; a timeline runs what
 * waits for a value once; a sole encode is alone. Next to each stands a twin that is broken in a
 * way only some interleavings show.
 */
@Timeout(60)
class InterleavingTest {
  /** How many interleavings are explored; each twin is caught within far fewer. */
  private static final int INVOCATIONS = 100;

  /**
   * What threads share. The model checker switches threads only at accesses to what a field leads
   * to: it takes an object that is merely captured by a lambda for a thread's own.
   */
  @SuppressWarnings("UnusedVariable") // written for the model checker's eyes
  private static volatile List<Object> shared = List.of();

  // ---- lifetime

  /** What users and a closer do with a resource. */
  private interface Resource {
    boolean acquire();

    boolean release();

    boolean close();
  }

  private static Resource shipped() {
    Lifetime lifetime = new Lifetime();
    return new Resource() {
      @Override
      public boolean acquire() {
        return lifetime.acquire();
      }

      @Override
      public boolean release() {
        return lifetime.release();
      }

      @Override
      public boolean close() {
        return lifetime.close();
      }
    };
  }

  /** Looks whether it is closed and then counts, in two steps: a close may slip between. */
  private static final class ChecksThenCounts implements Resource {
    private final AtomicInteger users = new AtomicInteger();
    private volatile boolean closed;

    @Override
    public boolean acquire() {
      if (closed) {
        return false;
      }
      users.incrementAndGet();
      return true;
    }

    @Override
    public boolean release() {
      return users.decrementAndGet() == 0 && closed;
    }

    @Override
    public boolean close() {
      closed = true;
      return users.get() == 0;
    }
  }

  private static void freesOnceAndNeverUnderAUser(Resource resource) throws InterruptedException {
    AtomicInteger freed = new AtomicInteger();
    AtomicInteger freedUnderUser = new AtomicInteger();
    shared = List.of(resource, freed, freedUnderUser);
    Thread user =
        new Thread(
            () -> {
              if (resource.acquire()) {
                freedUnderUser.set(freed.get());
                if (resource.release()) {
                  freed.incrementAndGet();
                }
              }
            });
    user.start();
    if (resource.close()) {
      freed.incrementAndGet();
    }
    user.join();
    if (freed.get() != 1 || freedUnderUser.get() != 0) {
      throw new AssertionError(
          "freed " + freed.get() + " times, " + freedUnderUser.get() + " of them under the user");
    }
  }

  // ---- timeline

  /** Looks for waiters first and completes afterwards: who registers between is forgotten. */
  private static final class WakesBeforeItCompletes extends Timeline {
    private boolean woken;

    WakesBeforeItCompletes(Driver driver, long queue) {
      super(driver, queue, "stream 0", 0, 0, new Polling(0));
    }

    @Override
    void complete(long value, GpuTimes times, @Nullable StreamFailedException failure) {
      super.wakeReached();
      woken = true;
      super.complete(value, times, failure);
    }

    @Override
    void wakeReached() {
      if (!woken) {
        super.wakeReached();
      }
    }
  }

  private static void runsWhatWaitsOnce(Timeline timeline) throws InterruptedException {
    AtomicInteger ran = new AtomicInteger();
    shared = List.of(timeline, ran);
    timeline.submitted(1);
    Thread waiter = new Thread(() -> timeline.whenReached(1, ran::incrementAndGet));
    waiter.start();
    timeline.complete(1, new Timeline.GpuTimes(1, 2), null);
    waiter.join();
    if (ran.get() != 1) {
      throw new AssertionError("ran " + ran.get() + " times");
    }
  }

  // ---- the gate of encodes

  /** Looks whether it may be alone and then encodes, in two steps: another may slip between. */
  private static final class LooksThenEncodes extends EncodeGate {
    @Override
    int enter() {
      return few() ? SOLE : SHARED;
    }

    @Override
    void leave(int found) {}
  }

  /** One encodes while a second stream becomes live and does, too. */
  private static void aSoleEncodeIsAlone(EncodeGate gate) throws InterruptedException {
    AtomicInteger encoding = new AtomicInteger();
    AtomicInteger beside = new AtomicInteger();
    shared = List.of(gate, encoding, beside);
    gate.arrived();
    Thread second =
        new Thread(
            () -> {
              gate.arrived();
              encode(gate, encoding, beside);
            });
    second.start();
    encode(gate, encoding, beside);
    second.join();
    if (beside.get() != 0) {
      throw new AssertionError("encoded beside a sole encode");
    }
  }

  private static void encode(EncodeGate gate, AtomicInteger encoding, AtomicInteger beside) {
    int found = gate.enter();
    // The sole one adds more than any number of others.
    int mine = found == EncodeGate.SOLE ? 100 : 1;
    int all = encoding.addAndGet(mine);
    if (all > 100) {
      beside.incrementAndGet();
    }
    encoding.addAndGet(-mine);
    gate.leave(found);
  }

  // ---- the explorer

  private interface Scenario {
    void run() throws InterruptedException;
  }

  private static void explore(Scenario scenario) {
    Lincheck.runConcurrentTest(
        INVOCATIONS,
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

  @Test
  void aLifetimeFreesOnceAndNeverUnderAUser() {
    explore(() -> freesOnceAndNeverUnderAUser(shipped()));
  }

  @Test
  void aLifetimeThatChecksThenCountsIsCaught() {
    assertThatThrownBy(() -> explore(() -> freesOnceAndNeverUnderAUser(new ChecksThenCounts())))
        .hasMessageContaining("under the user");
  }

  @Test
  void aSoleEncodeIsAlone() {
    explore(() -> aSoleEncodeIsAlone(new EncodeGate()));
  }

  @Test
  void aGateThatLooksThenEncodesIsCaught() {
    assertThatThrownBy(() -> explore(() -> aSoleEncodeIsAlone(new LooksThenEncodes())))
        .hasMessageContaining("beside a sole encode");
  }

  @Test
  void aTimelineRunsWhatWaitsOnce() {
    Driver driver = Script.manual().driver();
    explore(() -> runsWhatWaitsOnce(new Timeline(driver, 1, "stream 0", 0, 0, new Polling(0))));
  }

  @Test
  void aTimelineThatWakesBeforeItCompletesIsCaught() {
    Driver driver = Script.manual().driver();
    assertThatThrownBy(
            () -> explore(() -> runsWhatWaitsOnce(new WakesBeforeItCompletes(driver, 1))))
        .hasMessageContaining("ran 0 times");
  }
}
