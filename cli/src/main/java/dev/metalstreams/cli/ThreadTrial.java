package dev.metalstreams.cli;

import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Phaser;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

/**
 * Threads that do the same thing again and again for a while. They are started, and have done it
 * once, before the clock starts, which is the same for all: it stops when the last of them ends.
 * (To add up what each does in a time of its own would count threads that run one after the other
 * as if they ran at once.)
 */
final class ThreadTrial implements Rounds.Trial {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  /** What one thread does; used by that thread alone. */
  interface Job extends AutoCloseable {
    /** Does it once. */
    void run();

    /** Gives back what it has, and checks what came out of the last time. */
    @Override
    void close();
  }

  /** Makes a thread's job, on that thread. */
  interface Maker {
    Job make();
  }

  private final int threads;
  private final ThreadFactory factory;
  private final int times;
  private final Maker maker;
  private final Findings findings;

  /**
   * @param times how many times a job counts for
   */
  ThreadTrial(int threads, ThreadFactory factory, int times, Maker maker, Findings findings) {
    this.threads = threads;
    this.factory = factory;
    this.times = times;
    this.maker = maker;
    this.findings = findings;
  }

  /** On platform threads. */
  ThreadTrial(int threads, int times, Maker maker, Findings findings) {
    this(threads, platformThreads(), times, maker, findings);
  }

  static ThreadFactory platformThreads() {
    return Thread.ofPlatform().daemon().name("bench-", 0).factory();
  }

  @Override
  public double measure(long nanos) {
    AtomicLong begin = new AtomicLong();
    AtomicLong end = new AtomicLong(Long.MIN_VALUE);
    LongAdder done = new LongAdder();
    Phaser start =
        new Phaser(threads) {
          @Override
          protected boolean onAdvance(int phase, int registered) {
            begin.set(System.nanoTime());
            return true;
          }
        };
    List<Runnable> work =
        Collections.nCopies(
            threads,
            () -> {
              work(start, begin, nanos, end, done);
            });
    try {
      if (!Crew.run(work, factory, done::sum, PATIENCE, () -> {}, findings)) {
        throw new IllegalStateException("threads hang; the device cannot be measured further");
      }
    } catch (InterruptedException e) {
      throw new IllegalStateException("interrupted", e);
    }
    return end.get() <= 0 ? 0 : done.sum() * (double) times / (end.get() / 1e9);
  }

  private void work(Phaser start, AtomicLong begin, long nanos, AtomicLong end, LongAdder done) {
    boolean ready = false;
    try (Job job = maker.make()) {
      job.run();
      ready = true;
      start.arriveAndAwaitAdvance();
      long jobs = 0;
      long passed = 0;
      while (passed < nanos) {
        job.run();
        jobs++;
        passed = System.nanoTime() - begin.get();
      }
      done.add(jobs);
      end.accumulateAndGet(passed, Math::max);
    } finally {
      if (!ready) {
        start.arriveAndDeregister(); // the others are not to wait for one that will not come
      }
    }
  }
}
