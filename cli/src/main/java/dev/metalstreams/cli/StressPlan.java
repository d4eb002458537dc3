package dev.metalstreams.cli;

import dev.metalstreams.Exhaustion;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadFactory;

/**
 * How to stress.
 *
 * @param threads workers at once
 * @param iterations jobs of a worker, unless there is a duration
 * @param duration how long to go on instead
 * @param churn whether each job gets a new thread
 * @param virtualThreads whether the threads are virtual
 * @param lease how each job takes a lease; without it, a job runs on its thread's own stream
 * @param faults makes things fail on purpose
 * @param seed what random choices start from
 * @param patience how long nothing may get on before that is an error
 */
record StressPlan(
    int threads,
    long iterations,
    Optional<Duration> duration,
    boolean churn,
    boolean virtualThreads,
    Optional<Leasing> lease,
    Optional<Faults> faults,
    long seed,
    Duration patience) {

  /**
   * How to take a lease.
   *
   * @param policy what to do when all streams are leased
   * @param timeout how long {@link Exhaustion#TIMEOUT} waits
   */
  record Leasing(Exhaustion policy, Duration timeout) {}

  /** Makes the threads. */
  ThreadFactory threadFactory() {
    return virtualThreads
        ? Thread.ofVirtual().name("stress-", 0).factory()
        : Thread.ofPlatform().daemon().name("stress-", 0).factory();
  }

  /** The jobs that must be accounted for in the end, if there is no duration. */
  long jobs() {
    return threads * iterations;
  }
}
