package dev.metalstreams.batch;

import java.util.Map;

/**
 * What a {@link BatchQueue} has done so far. Times are nanoseconds; quantiles are at most 12.5 %
 * too large.
 *
 * @param accepted requests that were taken in
 * @param succeeded requests that got a result
 * @param failed requests whose function failed
 * @param cancelled requests whose submitter cancelled them, or completed the future himself
 * @param expired requests whose deadline passed first
 * @param abandoned requests that a close left unserved
 * @param rejected requests that were not taken in
 * @param waiting requests that wait now
 * @param batches batches served
 * @param sizes how many batches had which size
 * @param flushes how many batches were served for which reason
 * @param meanSize requests per batch
 * @param utilisation mean size of a batch, as a part of the largest allowed
 * @param waitP50 median time from submission to being served
 * @param waitP99 time that 99 % of requests did not wait longer than
 * @param serveP50 median time to serve a batch
 * @param serveP99 time that 99 % of batches did not take longer than
 * @param batchLimit the largest batch at present; less than the maximum while the queue adapts to a
 *     latency target
 */
public record BatchStats(
    long accepted,
    long succeeded,
    long failed,
    long cancelled,
    long expired,
    long abandoned,
    long rejected,
    int waiting,
    long batches,
    Map<Integer, Long> sizes,
    Map<FlushReason, Long> flushes,
    double meanSize,
    double utilisation,
    long waitP50,
    long waitP99,
    long serveP50,
    long serveP99,
    int batchLimit) {

  /** Copies the maps. */
  public BatchStats {
    sizes = Map.copyOf(sizes);
    flushes = Map.copyOf(flushes);
  }

  /** Accepted requests that have an outcome. */
  public long ended() {
    return succeeded + failed + cancelled + expired + abandoned;
  }
}
