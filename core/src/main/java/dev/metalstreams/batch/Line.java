package dev.metalstreams.batch;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.TreeSet;

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

  private final List<LinkedHashSet<Request<I, O>>> byPriority = new ArrayList<>();
  private final TreeSet<Request<I, O>> byDeadline =
      new TreeSet<>(
          Comparator.<Request<I, O>>comparingLong(request -> request.deadline)
              .thenComparingLong(request -> request.number));
  private int size;
  private long weight;

  Line(int priorities) {
    for (int i = 0; i < priorities; i++) {
      byPriority.add(new LinkedHashSet<>());
    }
  }

  int size() {
    return size;
  }

  void add(Request<I, O> request) {
    byPriority.get(request.priority).add(request);
    if (request.deadline != Long.MAX_VALUE) {
      byDeadline.add(request);
    }
    size++;
    weight += request.weight;
  }

  /** Takes a request out; false if it is not waiting. */
  boolean remove(Request<I, O> request) {
    if (!byPriority.get(request.priority).remove(request)) {
      return false;
    }
    byDeadline.remove(request);
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
    for (LinkedHashSet<Request<I, O>> requests : byPriority) {
      if (!requests.isEmpty()) {
        long first = requests.getFirst().submitted;
        oldest = oldest == Long.MAX_VALUE || first - oldest < 0 ? first : oldest;
      }
    }
    return oldest;
  }

  /** Takes the next batch: as many as fit, at least one. */
  List<Request<I, O>> take(int maxBatch, long maxWeight) {
    List<Request<I, O>> batch = new ArrayList<>(Math.min(maxBatch, size));
    long taken = 0;
    for (int priority = byPriority.size() - 1; priority >= 0; priority--) {
      LinkedHashSet<Request<I, O>> requests = byPriority.get(priority);
      while (!requests.isEmpty() && batch.size() < maxBatch) {
        Request<I, O> first = requests.getFirst();
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
