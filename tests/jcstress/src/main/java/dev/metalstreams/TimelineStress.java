package dev.metalstreams;

import static org.openjdk.jcstress.annotations.Expect.ACCEPTABLE;
import static org.openjdk.jcstress.annotations.Expect.FORBIDDEN;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import java.lang.reflect.Proxy;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;
import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.III_Result;
import org.openjdk.jcstress.infra.results.II_Result;
import org.openjdk.jcstress.infra.results.I_Result;

/**
 * {@link Timeline}: its numbers only grow, no wake-up is lost, no failure comes after its value.
 */
public class TimelineStress {
  private static final Timeline.GpuTimes TIMES = new Timeline.GpuTimes(1, 2);

  /** A device whose queue has come to value 1, with nothing failed. */
  private static final Driver DRIVER =
      (Driver)
          Proxy.newProxyInstance(
              Driver.class.getClassLoader(),
              new Class<?>[] {Driver.class},
              (proxy, method, arguments) ->
                  switch (method.getName()) {
                    case "completedValue" -> 1L;
                    case "failedValue" -> 0L;
                    default -> throw new UnsupportedOperationException(method.getName());
                  });

  private static Timeline timeline() {
    return new Timeline(DRIVER, 1, "stream 0", 0, 0, new Polling(0));
  }

  // ---- advance

  @JCStressTest
  @Outcome(id = "2", expect = ACCEPTABLE, desc = "where the device is")
  @Outcome(expect = FORBIDDEN, desc = "set back by who looked before")
  @State
  public static class TimelineOnlyGrows {
    private final Timeline timeline = timeline();

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, null);
      timeline.complete(2, TIMES, null);
    }

    @Actor
    public void waiter() {
      timeline.reached(1); // polls the driver, which says 1
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = (int) timeline.completed();
    }
  }

  /** Compares and sets in two steps, as {@code advance} must not. */
  @JCStressTest
  @Outcome(id = "2", expect = ACCEPTABLE, desc = "where the device is")
  @Outcome(expect = FORBIDDEN, desc = "set back by who looked before")
  @State
  public static class TimelineComparesThenSetsTwin {
    private volatile long completed;

    private void advance(long value) {
      if (completed < value) {
        completed = value;
      }
    }

    @Actor
    public void completionThread() {
      advance(1);
      advance(2);
    }

    @Actor
    public void waiter() {
      advance(1);
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = (int) completed;
    }
  }

  // ---- waiters

  @JCStressTest
  @Outcome(id = "1", expect = ACCEPTABLE, desc = "run once")
  @Outcome(expect = FORBIDDEN, desc = "a lost or doubled wake-up")
  @State
  public static class TimelineWakesOnce {
    private final Timeline timeline = timeline();
    private final AtomicInteger ran = new AtomicInteger();

    @Actor
    public void waiter() {
      timeline.whenReached(1, ran::incrementAndGet);
    }

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, null);
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = ran.get();
    }
  }

  /** Looks for waiters before it completes. */
  private static final class WakesFirst extends Timeline {
    private boolean woken;

    WakesFirst() {
      super(DRIVER, 1, "stream 0", 0, 0, new Polling(0));
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

  @JCStressTest
  @Outcome(id = "1", expect = ACCEPTABLE, desc = "run once")
  @Outcome(expect = FORBIDDEN, desc = "a lost or doubled wake-up")
  @State
  public static class TimelineWakesFirstTwin {
    private final Timeline timeline = new WakesFirst();
    private final AtomicInteger ran = new AtomicInteger();

    @Actor
    public void waiter() {
      timeline.whenReached(1, ran::incrementAndGet);
    }

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, null);
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = ran.get();
    }
  }

  /** The two flags of the protocol, without the order that {@code volatile} gives them. */
  @JCStressTest
  @Outcome(id = "0, 0", expect = FORBIDDEN, desc = "neither sees the other: a lost wake-up")
  @Outcome(expect = ACCEPTABLE, desc = "one of them sees the other")
  @State
  public static class TimelineWithoutVolatileTwin {
    private int completed;
    private int hasWaiters;

    @Actor
    public void waiter(II_Result r) {
      hasWaiters = 1;
      r.r1 = completed;
    }

    @Actor
    public void completionThread(II_Result r) {
      completed = 1;
      r.r2 = hasWaiters;
    }
  }

  // ---- failures

  @SuppressWarnings("StaticAssignmentOfThrowable") // never thrown; made once, not in each race
  private static final StreamFailedException FAILURE =
      new StreamFailedException("failed", 0, 1, Status.EXECUTION, null);

  @JCStressTest
  @Outcome(id = "1, 0", expect = FORBIDDEN, desc = "completed, and the failure is not known")
  @Outcome(expect = ACCEPTABLE, desc = "the failure is there with its value")
  @State
  public static class TimelineKeepsTheFailureFirst {
    private final Timeline timeline = timeline();

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, FAILURE);
    }

    @Actor
    public void waiter(II_Result r) {
      r.r1 = (int) timeline.completed();
      r.r2 = timeline.failureAt(1) == null ? 0 : 1;
    }
  }

  /** Completes, and keeps the failure afterwards. */
  @JCStressTest
  @Outcome(id = "1, 0", expect = FORBIDDEN, desc = "completed, and the failure is not known")
  @Outcome(expect = ACCEPTABLE, desc = "the failure is there with its value")
  @State
  public static class TimelineKeepsTheFailureAfterwardsTwin {
    private final Timeline timeline = timeline();

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, null);
      timeline.complete(1, TIMES, FAILURE);
    }

    @Actor
    public void waiter(II_Result r) {
      r.r1 = (int) timeline.completed();
      r.r2 = timeline.failureAt(1) == null ? 0 : 1;
    }
  }

  // ---- timed events

  @SuppressWarnings("StaticAssignmentOfThrowable") // never thrown; made once, not in each race
  private static final MetalStreamsException OVER = new MetalStreamsException("over");

  /** Counts what it is told. */
  private static final class Told implements Timeline.TimedEvent {
    final AtomicInteger count = new AtomicInteger();

    @Override
    public void times(Timeline.GpuTimes times) {
      count.incrementAndGet();
    }

    @Override
    public void none(MetalStreamsException why) {
      count.incrementAndGet();
    }
  }

  @JCStressTest
  @Outcome(id = "1", expect = ACCEPTABLE, desc = "told once")
  @Outcome(expect = FORBIDDEN, desc = "waits for ever, or is told twice")
  @State
  public static class TimelineTellsTimedEventsOfTheEnd {
    private final Timeline timeline = timeline();
    private final Told told = new Told();

    @Actor
    public void recorder() {
      timeline.time(5, told);
    }

    @Actor
    public void closer() {
      timeline.end(OVER);
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = told.count.get();
    }
  }

  /** Looks for the end before it puts the event where the end would find it. */
  @JCStressTest
  @Outcome(id = "1", expect = ACCEPTABLE, desc = "told once")
  @Outcome(expect = FORBIDDEN, desc = "waits for ever, or is told twice")
  @State
  public static class TimelineLooksBeforeItPutsTwin {
    private final ConcurrentHashMap<Long, Told> timed = new ConcurrentHashMap<>();
    private final Told told = new Told();
    private volatile @Nullable MetalStreamsException ended;

    private static void tell(@Nullable Told event) {
      if (event != null) {
        event.none(OVER);
      }
    }

    @Actor
    public void recorder() {
      if (ended != null) {
        told.none(OVER);
      } else {
        timed.put(5L, told);
      }
    }

    @Actor
    public void closer() {
      ended = OVER;
      tell(timed.remove(5L));
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = told.count.get();
    }
  }

  // ---- two readers

  @JCStressTest
  @Outcome(id = "\\d, [0-2], [0-2]", expect = ACCEPTABLE, desc = "seen in the order of the values")
  @Outcome(id = "-1, .*", expect = FORBIDDEN, desc = "a later look saw less")
  @State
  public static class TimelineReadersSeeItGrow {
    private final Timeline timeline = timeline();

    @Actor
    public void completionThread() {
      timeline.complete(1, TIMES, null);
      timeline.complete(2, TIMES, null);
    }

    @Actor
    public void reader(III_Result r) {
      r.r2 = (int) timeline.completed();
      r.r3 = (int) timeline.completed();
      r.r1 = r.r3 < r.r2 ? -1 : 0;
    }
  }
}
