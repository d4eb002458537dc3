package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.PriorityQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The timeline of one stream: how far its work has been submitted, how far it is done, and what
 * failed.
 *
 * <p>Every commit takes the next number; the device signals the number when the work is done.
 * Everything about order and lifetime in this library is arithmetic on these two numbers.
 *
 * <h2>Invariants</h2>
 *
 * <ol>
 *   <li>Both only grow. They are never set back, not even by a reset. {@code completed <=
 *       submitted} for whoever holds the stream's lock; others may see work completed a moment
 *       before they see it submitted.
 *   <li>{@code submitted} is written under the stream's lock, together with the commit: else a
 *       later value could be signalled first.
 *   <li>{@code completed >= v} implies that every failure at or before v is in {@code failures}.
 *       That is why a thread that polls the driver may only advance {@code completed} past work
 *       that succeeded; past a failure only the completion thread does, after it has kept the
 *       failure.
 *   <li>A wait owns nothing: any number of threads wait for the same value, and each returns only
 *       when {@code completed} has reached it. (Taking the work out of the stream in order to wait
 *       for it lets a second waiter return early.)
 *   <li>No wake-up is lost: a waiter is registered first and looks at {@code completed} afterwards;
 *       the completion thread writes {@code completed} first and looks for waiters afterwards. Both
 *       are volatile, so one of them sees the other.
 * </ol>
 *
 * <h2>Waiting</h2>
 *
 * A platform thread waits in native code, in slices short enough to notice an interrupt; there the
 * host shim lets it run device work itself. A virtual thread, or a driver that cannot wait, parks
 * here until the completion thread wakes it.
 */
class Timeline {
  private static final VarHandle COMPLETED;

  /** Longest native wait before the thread looks at its interrupt flag again. */
  private static final long NATIVE_SLICE_NANOS = TimeUnit.MILLISECONDS.toNanos(10);

  /** How often a virtual thread looks before it parks: small work is done within microseconds. */
  private static final int POLLS_BEFORE_PARK = 32;

  /** Failures kept after resets, so that late waiters still learn what happened to their work. */
  private static final int KEPT_FAILURES = 16;

  static {
    try {
      COMPLETED = MethodHandles.lookup().findVarHandle(Timeline.class, "completed", long.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  /**
   * Work that failed: every value in {@code first..last}; {@code last} is open until the stream is
   * reset.
   */
  private record Failure(long first, long last, StreamFailedException exception) {}

  /** GPU times of one command buffer, in nanoseconds. */
  record GpuTimes(long start, long end) {
    /** Given to a timeline that nobody has asked for times. */
    static final GpuTimes UNASKED = new GpuTimes(0, 0);
  }

  /** Something to wake once a value is completed. */
  private static class Waiter {
    final long value;
    private final Runnable wake;

    Waiter(long value, Runnable wake) {
      this.value = value;
      this.wake = wake;
    }
  }

  private final Driver driver;
  private final long queue;

  /**
   * Held around every call on the queue that is not made under the stream's lock: the queue may end
   * at any time.
   */
  private final Lifetime queueLife = new Lifetime();

  private final String name;
  private final int streamIndex;
  private final long watchdogNanos;

  private volatile long submitted;
  private volatile long completed;
  private volatile List<Failure> failures = List.of();
  private volatile @Nullable MetalStreamsException ended;

  private final ReentrantLock waitersLock = new ReentrantLock();
  private final PriorityQueue<Waiter> waiters =
      new PriorityQueue<>((a, b) -> Long.compare(a.value, b.value));
  private volatile boolean hasWaiters;

  /** Who wants the GPU times of a value. */
  private final ConcurrentHashMap<Long, TimedEvent> timed = new ConcurrentHashMap<>();

  /** Receives the GPU times of a value. */
  interface TimedEvent {
    void times(GpuTimes times);

    /** They will never come. */
    void none(MetalStreamsException why);
  }

  Timeline(Driver driver, long queue, String name, int streamIndex, long watchdogNanos) {
    this.driver = driver;
    this.queue = queue;
    this.name = name;
    this.streamIndex = streamIndex;
    this.watchdogNanos = watchdogNanos;
  }

  long submitted() {
    return submitted;
  }

  /** As far as this side knows; the device may be further. */
  long completed() {
    return completed;
  }

  /** Invariant 2: the caller holds the stream's lock and has just committed this value. */
  void submitted(long value) {
    submitted = value;
  }

  /** Whether a value is done, asking the driver if need be. Never blocks. */
  boolean reached(long value) {
    return completed >= value || poll() >= value;
  }

  /** Invariant 3: moves {@code completed} to where the driver is, but not past a failure. */
  private long poll() {
    if (queueLife.acquire()) {
      try {
        long now = driver.completedValue(queue);
        if (now > completed) {
          long failed = driver.failedValue(queue); // read after completedValue: see Driver
          if (failed == 0 || failed > now) {
            advance(now);
          }
        }
      } finally {
        releaseQueue();
      }
    }
    return completed;
  }

  /** Where the device is, failures or not. */
  private long deviceCompleted() {
    if (!queueLife.acquire()) {
      return completed;
    }
    try {
      return Math.max(completed, driver.completedValue(queue));
    } finally {
      releaseQueue();
    }
  }

  private boolean awaitNatively(long value, long nanos) {
    if (!queueLife.acquire()) {
      return true; // the device is closed: the caller looks at `ended`
    }
    try {
      return driver.awaitValue(queue, value, nanos);
    } finally {
      releaseQueue();
    }
  }

  private void releaseQueue() {
    if (queueLife.release()) {
      driver.destroyQueue(queue);
    }
  }

  /**
   * Gives the queue back, as soon as nobody looks at it. Its work is done, and {@link #end} was
   * called.
   */
  void destroyQueue() {
    if (queueLife.close()) {
      driver.destroyQueue(queue);
    }
  }

  private void advance(long value) {
    long seen = completed;
    while (seen < value) {
      long witness = (long) COMPLETED.compareAndExchange(this, seen, value);
      if (witness == seen) {
        return;
      }
      seen = witness;
    }
  }

  // ---- the completion thread's side

  /** Takes in one completion; called by the completion thread, in the order of the values. */
  void complete(long value, GpuTimes times, @Nullable StreamFailedException failure) {
    if (failure != null && failureAt(value) == null) {
      keep(new Failure(value, Long.MAX_VALUE, failure));
    }
    if (!timed.isEmpty()) {
      TimedEvent event = timed.remove(value);
      if (event != null) {
        event.times(times);
      }
    }
    advance(value);
    wakeReached();
  }

  private synchronized void keep(Failure failure) {
    List<Failure> now = new ArrayList<>(failures);
    now.add(failure);
    if (now.size() > KEPT_FAILURES) {
      now.remove(0);
    }
    failures = List.copyOf(now);
  }

  /** Wakes everyone whose value is completed. Does nothing, without a lock, if nobody waits. */
  void wakeReached() {
    if (hasWaiters) {
      wakeUpTo(completed);
    }
  }

  private void wakeUpTo(long value) {
    List<Waiter> woken = new ArrayList<>();
    waitersLock.lock();
    try {
      Waiter first = waiters.peek();
      while (first != null && first.value <= value) {
        woken.add(waiters.remove());
        first = waiters.peek();
      }
      hasWaiters = !waiters.isEmpty();
    } finally {
      waitersLock.unlock();
    }
    for (Waiter waiter : woken) {
      waiter.wake.run();
    }
  }

  /**
   * Nothing will be completed any more: every present and later wait for unfinished work throws
   * this.
   */
  void end(MetalStreamsException why) {
    ended = why;
    wakeUpTo(Long.MAX_VALUE);
    endTimed(why);
  }

  // ---- failures

  /** The failure that covers a value, if there is one. Exact for values up to {@code completed}. */
  @Nullable StreamFailedException failureAt(long value) {
    for (Failure failure : failures) {
      if (failure.first <= value && value <= failure.last) {
        return failure.exception;
      }
    }
    return null;
  }

  /** The failure that keeps the stream from taking work. */
  @Nullable StreamFailedException current() {
    return failureAt(Long.MAX_VALUE);
  }

  /**
   * Closes the present failure at what was submitted; later values are healthy. The caller holds
   * the stream's lock.
   */
  synchronized void reset() {
    List<Failure> now = new ArrayList<>();
    for (Failure failure : failures) {
      now.add(
          failure.last == Long.MAX_VALUE
              ? new Failure(failure.first, submitted, failure.exception)
              : failure);
    }
    failures = List.copyOf(now);
  }

  // ---- waiting

  /** Throws what a waiter for this value must learn. */
  void throwIfFailed(long value) {
    StreamFailedException failure = failureAt(value);
    if (failure != null) {
      throw failure.seenBy("waiting for " + name + " at " + value);
    }
  }

  /**
   * Waits until a committed value is done, in success or failure.
   *
   * @param timeoutNanos negative for no limit but the watchdog's
   */
  void awaitReached(long value, long timeoutNanos) {
    if (completed < value && !reached(value)) {
      block(value, timeoutNanos);
    }
  }

  private void block(long value, long timeoutNanos) {
    Deadline deadline = new Deadline(value, timeoutNanos);
    boolean virtual = Thread.currentThread().isVirtual();
    if (driver.canAwait() && !virtual) {
      long remaining = deadline.remaining();
      while (!awaitNatively(value, Math.min(remaining, NATIVE_SLICE_NANOS))) {
        remaining = deadline.remaining();
      }
      if (poll() >= value) {
        return;
      }
      // A failure is on its way through the completion thread: wait for it below.
    } else {
      for (int i = 0; i < POLLS_BEFORE_PARK; i++) {
        if (poll() >= value) {
          return;
        }
        Thread.onSpinWait();
      }
    }
    park(value, deadline);
  }

  private void park(long value, Deadline deadline) {
    Thread thread = Thread.currentThread();
    Waiter waiter = new Waiter(value, () -> LockSupport.unpark(thread));
    register(waiter);
    try {
      while (completed < value) { // Invariant 5: after register
        LockSupport.parkNanos(this, deadline.remaining());
      }
    } finally {
      forget(waiter);
    }
  }

  /**
   * Runs an action, soon, once a value is done or will never be; at once, on this thread, if that
   * is so already.
   */
  void whenReached(long value, Runnable action) {
    Waiter waiter = new Waiter(value, action);
    register(waiter);
    if ((completed >= value || ended != null) && forget(waiter)) {
      action.run();
    }
  }

  private void register(Waiter waiter) {
    waitersLock.lock();
    try {
      waiters.add(waiter);
      hasWaiters = true;
    } finally {
      waitersLock.unlock();
    }
  }

  /** True if the waiter was still registered. */
  private boolean forget(Waiter waiter) {
    waitersLock.lock();
    try {
      boolean removed = waiters.remove(waiter);
      hasWaiters = !waiters.isEmpty();
      return removed;
    } finally {
      waitersLock.unlock();
    }
  }

  /** The end of a wait, and everything else that ends it. */
  private final class Deadline {
    private final long value;
    private final boolean limited;
    private final long nanos;
    private long started = System.nanoTime();
    private long progress = completed;

    Deadline(long value, long timeoutNanos) {
      this.value = value;
      this.limited = timeoutNanos >= 0;
      this.nanos = limited ? timeoutNanos : watchdogNanos;
    }

    /** Nanoseconds left, at least 1; throws when the wait is over without its value. */
    long remaining() {
      MetalStreamsException end = ended;
      if (end != null && completed < value) {
        throw end;
      }
      if (Thread.currentThread().isInterrupted()) {
        throw new WaitInterruptedException(
            "interrupted while waiting for " + name + " at " + value);
      }
      if (!limited) {
        if (nanos == 0) {
          return Long.MAX_VALUE;
        }
        long now = deviceCompleted();
        if (now != progress) {
          progress = now;
          started = System.nanoTime();
        }
      }
      long left = nanos - (System.nanoTime() - started);
      if (left <= 0 && completed < value) {
        throw new WaitTimeoutException(
            name
                + " did not reach "
                + value
                + " within "
                + TimeUnit.NANOSECONDS.toMillis(nanos)
                + " ms: submitted "
                + submitted
                + ", completed "
                + deviceCompleted()
                + (limited ? "" : " (no progress; the time is the setting wait.watchdog.ms)"));
      }
      return Math.max(left, 1);
    }
  }

  // ---- GPU times

  /** Asks for the GPU times of a value that is not committed yet. */
  void time(long value, TimedEvent event) {
    timed.put(value, event);
    MetalStreamsException end = ended;
    if (end != null) {
      endTimed(end); // `end` may have looked before
    }
  }

  /** Whether anybody wants GPU times; asked for a value before it is committed. */
  boolean timed() {
    return !timed.isEmpty();
  }

  private void endTimed(MetalStreamsException why) {
    for (Long value : timed.keySet()) {
      TimedEvent event = timed.remove(value);
      if (event != null) {
        event.none(why);
      }
    }
  }

  /** A failure in the words of the driver, as an exception of this stream. */
  StreamFailedException failure(
      long value, Status status, String message, @Nullable Throwable cause) {
    return new StreamFailedException(
        name + " failed at " + value + " (" + status + "): " + message,
        streamIndex,
        value,
        status,
        cause);
  }

  @Override
  public String toString() {
    return name + "[submitted " + submitted + ", completed " + completed + "]";
  }
}
