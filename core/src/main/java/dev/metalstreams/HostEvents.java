package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import java.lang.System.Logger.Level;
import java.lang.ref.ReferenceQueue;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/**
 * The host events of a device, and the host queues whose values they are.
 *
 * <h2>Invariants</h2>
 *
 * <ol>
 *   <li>A host queue has at most one {@linkplain HostPromise promise} that is not ended, and goes
 *       to the next event afterwards, with the next value. So thousands of events, one after the
 *       other, take one queue.
 *   <li>A queue whose value failed goes to nobody: a failure sticks to its queue, and would strike
 *       later events. It ends once that is reported and no open command buffer is to wait for it;
 *       its timeline is known for a while, for those who are still to learn the cause.
 *   <li>Nothing here, and nothing that waits, holds a {@link HostEvent}: so one that is dropped
 *       comes out of {@link #dropped}. Its promise is held until it is ended.
 *   <li>After {@link #close} no promise stays pending: it is written down first, and {@code closed}
 *       read afterwards; the close writes {@code closed} first and looks for promises afterwards.
 * </ol>
 */
class HostEvents {
  /** Streams count their queues from 1. */
  private static final long FIRST_ID = 1L << 32;

  /** Queues that are kept although nobody needs them. */
  private static final int MOST_IDLE = 16;

  /** Failed queues of which the exception is kept for causes. */
  private static final int MOST_FAILED = 64;

  private final Device device;
  private final Driver driver;
  private final AtomicLong made = new AtomicLong();
  private final ConcurrentLinkedDeque<HostTimeline> idle = new ConcurrentLinkedDeque<>();

  /** Those whose queues have not ended. */
  private final Set<HostTimeline> live = ConcurrentHashMap.newKeySet();

  private final Set<HostPromise> promises = ConcurrentHashMap.newKeySet();
  private final ReferenceQueue<HostEvent> dropped = new ReferenceQueue<>();
  private volatile @Nullable DeviceClosedException closed;

  // Of the completion thread alone.
  private final Deque<HostTimeline> failed = new ArrayDeque<>();
  private final List<HostPromise> orphans = new ArrayList<>();

  HostEvents(Device device) {
    this.device = device;
    this.driver = device.driver();
  }

  /** Makes an event. */
  final HostEvent create() {
    HostTimeline timeline = idle.pollFirst();
    if (timeline == null) {
      timeline = open();
    }
    HostEvent event = new HostEvent(device, timeline, timeline.promise(), this);
    promises.add(event.promise());
    DeviceClosedException over = closed;
    if (over != null) {
      event.promise().endForGood(over);
      timeline.destroyQueue();
      throw over;
    }
    return event;
  }

  private HostTimeline open() {
    long number = made.incrementAndGet();
    long id = FIRST_ID + number;
    String name = "host queue " + number;
    long queue;
    try {
      queue = driver.createHostQueue(id, name);
    } catch (DriverException e) {
      throw device.translate(e, "creating a host event");
    }
    Settings settings = device.settings();
    HostTimeline timeline =
        timeline(
            id, queue, name, settings.watchdog.toNanos(), new Polling(settings.poll.toNanos()));
    live.add(timeline);
    device.register(id, timeline);
    return timeline;
  }

  /** Tests replace it by a broken twin. */
  HostTimeline timeline(long id, long queue, String name, long watchdogNanos, Polling polling) {
    return new HostTimeline(this, id, driver, queue, name, watchdogNanos, polling);
  }

  final Driver driver() {
    return driver;
  }

  /** Where promises go whose event is gone. */
  final ReferenceQueue<HostEvent> dropped() {
    return dropped;
  }

  /** What pending promises end with since the close began; null before. */
  final @Nullable DeviceClosedException closed() {
    return closed;
  }

  // ---- what becomes of promises and queues

  /** A promise is kept. */
  void ended(HostPromise promise, boolean succeeded) {
    promises.remove(promise);
    if (succeeded) {
      idle.addFirst(promise.timeline());
    }
  }

  /** A failure was reported. On the completion thread. */
  void failed(HostTimeline timeline) {
    live.remove(timeline);
    timeline.destroyQueue();
    failed.addLast(timeline);
    if (failed.size() > MOST_FAILED) {
      device.unregister(failed.removeFirst().id());
    }
  }

  /** Ends what was dropped, and queues that are too many. On the completion thread; never waits. */
  final void tick() {
    for (var each = dropped.poll(); each != null; each = dropped.poll()) {
      orphans.add((HostPromise) each);
    }
    orphans.removeIf(this::endsOrphan);
    while (idle.size() > MOST_IDLE) {
      HostTimeline last = idle.pollLast();
      if (last == null || !last.toldAll()) {
        if (last != null) {
          idle.addLast(last);
        }
        return;
      }
      live.remove(last);
      last.destroyQueue();
      device.unregister(last.id());
    }
  }

  /** True if there is no more to do. */
  private boolean endsOrphan(HostPromise promise) {
    if (!promise.isPending()) {
      return true;
    }
    String what =
        promise + " was dropped without a signal: nobody can give it any more, so it has failed";
    try {
      if (promise.end(new IllegalStateException(what))) {
        device.log(Level.WARNING, what, null);
      }
      return true;
    } catch (DriverException e) {
      return false; // next time
    }
  }

  /** Never in the way of a close: its device gives the queue back. */
  final void refused(HostPromise promise, DriverException why) {
    device.log(Level.ERROR, "the driver does not signal " + promise, why);
  }

  final void kept(HostTimeline timeline, DriverException why) {
    device.log(Level.ERROR, "the driver kept " + timeline, why);
  }

  // ---- the end of the device

  /** Ends every promise. Streams take no more work, and what they have submitted can go on. */
  void close(DeviceClosedException over) {
    closed = over;
    promises.forEach(promise -> promise.endForGood(over));
  }

  /** The completion thread has ended. */
  final void end(DeviceClosedException over) {
    live.forEach(timeline -> timeline.end(over));
  }

  /** Gives the queues back. */
  final void destroy() {
    live.forEach(HostTimeline::destroyQueue);
    live.clear();
  }
}
