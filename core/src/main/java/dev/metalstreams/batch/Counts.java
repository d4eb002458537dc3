package dev.metalstreams.batch;

import java.util.EnumMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;

/** The figures behind {@link BatchStats}. Any thread may count at any time. */
final class Counts {
  private final Map<Request.Outcome, LongAdder> outcomes = new EnumMap<>(Request.Outcome.class);
  private final Map<FlushReason, LongAdder> flushes = new EnumMap<>(FlushReason.class);
  private final ConcurrentHashMap<Integer, LongAdder> sizes = new ConcurrentHashMap<>();
  final LongAdder accepted = new LongAdder();
  final LongAdder rejected = new LongAdder();
  final Histogram waits = new Histogram();
  final Histogram services = new Histogram();

  Counts() {
    for (Request.Outcome outcome : Request.Outcome.values()) {
      outcomes.put(outcome, new LongAdder());
    }
    for (FlushReason reason : FlushReason.values()) {
      flushes.put(reason, new LongAdder());
    }
  }

  void ended(Request.Outcome how) {
    adder(outcomes, how).increment();
  }

  void flushed(FlushReason reason, int size) {
    adder(flushes, reason).increment();
    sizes.computeIfAbsent(size, each -> new LongAdder()).increment();
  }

  private static <K> LongAdder adder(Map<K, LongAdder> all, K key) {
    LongAdder adder = all.get(key);
    if (adder == null) {
      throw new AssertionError(key);
    }
    return adder;
  }

  BatchStats read(int waiting, int maxBatch, int batchLimit) {
    Map<Integer, Long> bySize = new TreeMap<>();
    long batches = 0;
    long requests = 0;
    for (Map.Entry<Integer, LongAdder> entry : sizes.entrySet()) {
      long count = entry.getValue().sum();
      bySize.put(entry.getKey(), count);
      batches += count;
      requests += count * entry.getKey();
    }
    Map<FlushReason, Long> byReason = new EnumMap<>(FlushReason.class);
    flushes.forEach((reason, count) -> byReason.put(reason, count.sum()));
    double mean = batches == 0 ? 0 : (double) requests / batches;
    return new BatchStats(
        accepted.sum(),
        adder(outcomes, Request.Outcome.SUCCEEDED).sum(),
        adder(outcomes, Request.Outcome.FAILED).sum(),
        adder(outcomes, Request.Outcome.CANCELLED).sum(),
        adder(outcomes, Request.Outcome.EXPIRED).sum(),
        adder(outcomes, Request.Outcome.ABANDONED).sum(),
        rejected.sum(),
        waiting,
        batches,
        bySize,
        byReason,
        mean,
        mean / maxBatch,
        waits.quantile(0.5),
        waits.quantile(0.99),
        services.quantile(0.5),
        services.quantile(0.99),
        batchLimit);
  }
}
