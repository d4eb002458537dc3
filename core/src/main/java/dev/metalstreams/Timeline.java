package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListMap;
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
 * Every wait looks again and again for a while ({@link Polling}), unless the driver lets the
 * waiting thread run the work itself. Then a platform thread waits in native code, in slices short
 * enough to notice an interrupt. A virtual thread, or a driver that cannot wait, parks here until
 * somebody wakes it: the completion thread, or whoever else sees first that the value is completed.
 */
class Timeline {
  private static final VarHandle COMPLETED;

  /** Longest native wait before the thread looks at its interrupt flag again. */
  private static final long NATIVE_SLICE_NANOS = TimeUnit.MILLISECONDS.toNanos(10);

  /**
   * Failures kept with their exceptions after resets. That older work failed stays known for good:
   * a late waiter must never take it for a success.
   */
  private static final int KEPT_EXCEPTIONS = 16;

  static {
    try {
      COMPLETED = MethodHandles.lookup().findVarHandle(Timeline.class, "completed", long.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  /**
   * Work that failed or was cancelled: every value in {@code first..last}; {@code last} is open
   * until the stream is reset. The exception of an old failure is forgotten.
   */
  private record Failure(long first, long last, @Nullable MetalStreamsException exception) {}

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
  private final Polling polling;

  private volatile long submitted;
  private volatile long completed;

  /** By their first values; their ranges do not overlap. Changed under the monitor. */
  private final ConcurrentSkipListMap<Long, Failure> failures = new ConcurrentSkipListMap<>();

  /** The failure without an end. */
  private volatile @Nullable StreamFailedException current;

  private volatile @Nullable MetalStreamsException ended;

  private final ReentrantLock waitersLock = new ReentrantLock();
  private final PriorityQueue<Waiter> waiters =
      new PriorityQueue<>((a, b) -> Long.compare(a.value, b.value));
  private volatile boolean hasWaiters;

  /** Waits for the host that the work of a value has; for messages. */
  private final Queue<HostWait> hostWaits = new ConcurrentLinkedQueue<>();

  private record HostWait(long at, DeviceEvent event) {}

  /** Who wants the GPU times of a value. */
  private final ConcurrentHashMap<Long, TimedEvent> timed = new ConcurrentHashMap<>();

  /** Receives the GPU times of a value. */
  interface TimedEvent {
    void times(GpuTimes times);

    /** They will never come. */
    void none(MetalStreamsException why);
  }

  Timeline(
      Driver driver,
      long queue,
      String name,
      int streamIndex,
      long watchdogNanos,
      Polling polling) {
    this.driver = driver;
    this.queue = queue;
    this.name = name;
    this.streamIndex = streamIndex;
    this.watchdogNanos = watchdogNanos;
    this.polling = polling;
  }

  /** As messages call it. */
  String name() {
    return name;
  }

  /** The driver's handle; to be used while it is {@linkplain #holdQueue held}. */
  long queue() {
    return queue;
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

  /**
   * Invariant 3: moves {@code completed} to where the driver is, but not past a failure. Wakes whom
   * that concerns: the completion thread may hear of it milliseconds later, if the work was left to
   * a thread that waits for it ({@link Driver#COMMIT_WAITING}).
   */
  private long poll() {
    if (queueLife.acquire()) {
      try {
        long now = driver.completedValue(queue);
        if (now > completed) {
          long failed = driver.failedValue(queue); // read after completedValue: see Driver
          if (failed == 0 || failed > now) {
            advance(now);
            wakeReached();
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

  /**
   * Waits until the device has done all that was submitted, whatever became of it and whoever was
   * told; false if it has not within the time. Deaf to interrupts: part of the device's close.
   */
  boolean drained(long timeoutNanos) {
    long begun = System.nanoTime();
    while (deviceCompleted() < submitted) {
      if (System.nanoTime() - begun >= timeoutNanos) {
        return false;
      }
      boolean interrupted = Thread.interrupted(); // else it would not park
      LockSupport.parkNanos(this, NATIVE_SLICE_NANOS / 10);
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
    return true;
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

  /** Keeps the queue until {@link #releaseQueue}; false if it is given back. */
  boolean holdQueue() {
    return queueLife.acquire();
  }

  void releaseQueue() {
    if (queueLife.release()) {
      endQueue();
    }
  }

  /** Nobody holds the queue any more. */
  void endQueue() {
    driver.destroyQueue(queue);
  }

  /**
   * Gives the queue back, as soon as nobody looks at it. Its work is done, and {@link #end} was
   * called.
   */
  void destroyQueue() {
    if (queueLife.close()) {
      endQueue();
    }
  }

  // ---- waits for the host

  /** The work of a value, which is not committed yet, waits for a host event. */
  void waitsForHost(long at, DeviceEvent event) {
    hostWaits.removeIf(wait -> wait.at <= completed || wait.event.isOver());
    hostWaits.add(new HostWait(at, event));
  }

  /** What is known to stand before a value, for a message. */
  String obstacle(long value) {
    for (HostWait wait : hostWaits) {
      if (wait.at <= value && !wait.event.isOver()) {
        return ", and waits for " + wait.event + ", which nobody has signalled";
      }
    }
    return "";
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
    if (failure != null) {
      fail(value, failure);
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
  @Nullable MetalStreamsException failureAt(long value) {
    Map.Entry<Long, Failure> entry = failures.floorEntry(value);
    if (entry == null || value > entry.getValue().last) {
      return null;
    }
    MetalStreamsException exception = entry.getValue().exception;
    return exception != null
        ? exception
        : new MetalStreamsException(
            name + " failed at " + entry.getKey() + ", so long ago that the cause is forgotten");
  }

  /** Whether the work of a value failed and the stream was reset since, or it was cancelled. */
  boolean settled(long value) {
    Map.Entry<Long, Failure> entry = failures.floorEntry(value);
    return entry != null
        && value <= entry.getValue().last
        && entry.getValue().last < Long.MAX_VALUE;
  }

  /** The failure that keeps the stream from taking work. */
  @Nullable StreamFailedException current() {
    return current;
  }

  private synchronized void fail(long value, StreamFailedException failure) {
    if (current == null) {
      failures.tailMap(value).clear(); // what was cancelled meanwhile is covered from here on
      keep(new Failure(value, Long.MAX_VALUE, failure));
      current = failure;
    }
  }

  /**
   * The work of one value was cancelled: who waits for it learns so, and the stream goes on. The
   * caller holds the stream's lock, and the value is not submitted.
   */
  synchronized void cancelled(long value, WorkCancelledException why) {
    if (current == null) {
      keep(new Failure(value, value, why));
    }
  }

  private void keep(Failure failure) {
    failures.put(failure.first, failure);
    int most = KEPT_EXCEPTIONS;
    for (Failure each : failures.descendingMap().values()) {
      if (most == 0 && each.exception == null) {
        return; // and so on, down to the first
      }
      if (most == 0) {
        failures.put(each.first, new Failure(each.first, each.last, null));
        return;
      }
      most--;
    }
  }

  /**
   * Closes the present failure at what was submitted; later values are healthy. The caller holds
   * the stream's lock.
   */
  synchronized void reset() {
    Map.Entry<Long, Failure> last = failures.lastEntry();
    if (current != null && last != null) {
      failures.put(last.getKey(), new Failure(last.getKey(), submitted, current));
      current = null;
    }
  }

  // ---- waiting

  /** Throws what a waiter for this value must learn, with a stack of his own. */
  void throwIfFailed(long value) {
    MetalStreamsException failure = failureAt(value);
    if (failure == null) {
      return;
    }
    String what = "waiting for " + name + " at " + value;
    if (failure instanceof StreamFailedException failed) {
      throw failed.seenBy(what);
    }
    if (failure instanceof WorkCancelledException cancelled) {
      throw new WorkCancelledException(what + ": " + cancelled.getMessage(), cancelled);
    }
    throw failure;
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
    boolean natively = driver.canAwait() && !Thread.currentThread().isVirtual();
    if (natively && driver.awaitHelps()) { // to look first would only put the work off
      awaitNatively(value, deadline);
    } else if (look(value, deadline)) {
      polling.waited(deadline.waited());
      return;
    } else if (natively) {
      awaitNatively(value, deadline);
    }
    if (poll() < value) { // else a failure may be on its way through the completion thread
      park(value, deadline);
    }
    polling.waited(deadline.waited());
  }

  /** Looks again and again for a while; true if that was enough. */
  private boolean look(long value, Deadline deadline) {
    long most = Math.min(polling.nanos(), deadline.remaining());
    while (deadline.waited() < most) {
      if (poll() >= value) {
        return true;
      }
      Thread.onSpinWait();
    }
    return false;
  }

  private void awaitNatively(long value, Deadline deadline) {
    long remaining = deadline.remaining();
    try {
      while (!awaitNatively(value, Math.min(remaining, NATIVE_SLICE_NANOS))) {
        remaining = deadline.remaining();
      }
    } catch (DriverException e) {
      // The driver had nothing left to wait with: the caller parks instead.
    }
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
    private final long begun = System.nanoTime();
    private long started = begun;
    private long progress = completed;

    Deadline(long value, long timeoutNanos) {
      this.value = value;
      this.limited = timeoutNanos >= 0;
      this.nanos = limited ? timeoutNanos : watchdogNanos;
    }

    long waited() {
      return System.nanoTime() - begun;
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
                + obstacle(value)
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
