package dev.metalstreams.batch;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * The requests that wait, and when to serve them: a pure function of what waits and what time it
 * is, without a thread or a clock of its own, so that tests decide both. Not thread-safe: under the
 * queue's lock.
 *
 * <p>Requests of a higher priority go first; those of one priority in the order they came.
 */
final class Line<I, O> {

  /** When a batch is due, in nanoseconds from now (0 = now), and why. */
  record Due(long in, FlushReason reason) {}

  /**
   * First in, first out. The links are in the requests, so that a place in the line costs nothing.
   */
  private static final class Lane<I, O> {
    @Nullable Request<I, O> first;
    @Nullable Request<I, O> last;

    void append(Request<I, O> request) {
      request.lane = this;
      request.ahead = last;
      if (last == null) {
        first = request;
      } else {
        last.behind = request;
      }
      last = request;
    }

    void unlink(Request<I, O> request) {
      Request<I, O> ahead = request.ahead;
      Request<I, O> behind = request.behind;
      if (ahead == null) {
        first = behind;
      } else {
        ahead.behind = behind;
      }
      if (behind == null) {
        last = ahead;
      } else {
        behind.ahead = ahead;
      }
      request.ahead = null;
      request.behind = null;
      request.lane = null;
    }
  }

  private final List<Lane<I, O>> byPriority = new ArrayList<>();
  private final TreeSet<Request<I, O>> byDeadline = new TreeSet<>(Line::compareDeadlines);
  private int size;
  private long weight;

  Line(int priorities) {
    for (int i = 0; i < priorities; i++) {
      byPriority.add(new Lane<>());
    }
  }

  private static int compareDeadlines(Request<?, ?> a, Request<?, ?> b) {
    int order = Long.compare(a.deadline, b.deadline);
    return order != 0 ? order : Long.compare(a.number, b.number);
  }

  int size() {
    return size;
  }

  /** Of all that waits. */
  long weight() {
    return weight;
  }

  void add(Request<I, O> request) {
    byPriority.get(request.priority).append(request);
    if (request.deadline != Long.MAX_VALUE) {
      byDeadline.add(request);
    }
    size++;
    weight += request.weight;
  }

  /** Takes a request out; false if it is not waiting. */
  boolean remove(Request<I, O> request) {
    Lane<I, O> lane = byPriority.get(request.priority);
    if (request.lane != lane) {
      return false;
    }
    lane.unlink(request);
    if (request.deadline != Long.MAX_VALUE) {
      byDeadline.remove(request);
    }
    size--;
    weight -= request.weight;
    return true;
  }

  /** Takes out the requests whose deadline has passed. */
  List<Request<I, O>> expired(long now) {
    List<Request<I, O>> expired = new ArrayList<>();
    while (!byDeadline.isEmpty() && byDeadline.first().deadline <= now) {
      Request<I, O> first = byDeadline.first();
      remove(first);
      expired.add(first);
    }
    return expired;
  }

  /**
   * When the next batch is due. The line is not empty.
   *
   * @param serving how long a batch takes, as far as known: a request with a deadline is served
   *     that much before it
   */
  Due due(long now, int maxBatch, long maxWeight, long maxDelay, long serving, boolean draining) {
    if (draining) {
      return new Due(0, FlushReason.DRAIN);
    }
    if (size >= maxBatch || weight >= maxWeight) {
      return new Due(0, FlushReason.FULL);
    }
    if (maxDelay == 0) {
      return new Due(0, FlushReason.IDLE);
    }
    long delay = Math.max(0, maxDelay - (now - oldest()));
    if (delay == 0) {
      return new Due(0, FlushReason.DELAY);
    }
    if (!byDeadline.isEmpty()) {
      long slack = Math.max(0, byDeadline.first().deadline - now - serving);
      if (slack < delay) {
        return new Due(slack, FlushReason.DEADLINE);
      }
    }
    return new Due(delay, FlushReason.DELAY);
  }

  private long oldest() {
    long oldest = Long.MAX_VALUE;
    for (Lane<I, O> lane : byPriority) {
      Request<I, O> first = lane.first;
      if (first != null) {
        oldest =
            oldest == Long.MAX_VALUE || first.submitted - oldest < 0 ? first.submitted : oldest;
      }
    }
    return oldest;
  }

  /** Takes the next batch: as many as fit, at least one. */
  List<Request<I, O>> take(int maxBatch, long maxWeight) {
    List<Request<I, O>> batch = new ArrayList<>(Math.min(maxBatch, size));
    long taken = 0;
    for (int priority = byPriority.size() - 1; priority >= 0; priority--) {
      Lane<I, O> lane = byPriority.get(priority);
      for (Request<I, O> first = lane.first;
          first != null && batch.size() < maxBatch;
          first = lane.first) {
        if (!batch.isEmpty() && first.weight > maxWeight - taken) {
          return batch;
        }
        remove(first);
        batch.add(first);
        taken += first.weight;
      }
    }
    return batch;
  }

  /** Takes all. */
  List<Request<I, O>> takeAll() {
    return take(Integer.MAX_VALUE, Long.MAX_VALUE);
  }
}
