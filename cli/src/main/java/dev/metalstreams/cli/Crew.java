package dev.metalstreams.cli;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * Threads that do a piece of work together.
 *
 * <p>Nothing that happens to one of them is lost: a throwable becomes a finding, and so does a crew
 * of which nobody gets on any more, so that a lost wake-up in what is under test ends in a message
 * and not in a hang. Threads that hang are left behind; they are daemons.
 */
final class Crew {
  private static final Duration TICK = Duration.ofMillis(50);

  private final Findings findings;
  private final List<Thread> threads = new ArrayList<>();
  private final CountDownLatch running;

  private Crew(int size, Findings findings) {
    this.findings = findings;
    this.running = new CountDownLatch(size);
  }

  /**
   * Runs all of the work, each on a thread of its own, and waits for its end.
   *
   * @param progress grows as long as somebody gets on
   * @param patience how long nobody may get on
   * @param tick called now and then, by the caller's thread
   * @return whether every thread came to its end
   */
  static boolean run(
      List<Runnable> work,
      ThreadFactory factory,
      LongSupplier progress,
      Duration patience,
      Runnable tick,
      Findings findings)
      throws InterruptedException {
    Crew crew = new Crew(work.size(), findings);
    try {
      work.forEach(job -> crew.start(job, factory));
    } catch (OutOfMemoryError e) {
      // The system gives no more threads; those that run go on.
      findings.error(
          "only " + crew.threads.size() + " of " + work.size() + " threads could be started", e);
      for (int i = crew.threads.size(); i < work.size(); i++) {
        crew.running.countDown();
      }
    }
    return crew.await(progress, patience, tick);
  }

  private void start(Runnable job, ThreadFactory factory) {
    Thread thread =
        factory.newThread(
            () -> {
              try {
                job.run();
              } catch (Throwable t) {
                findings.error(Thread.currentThread().getName(), t);
              } finally {
                running.countDown();
              }
            });
    thread.start();
    threads.add(thread);
  }

  private boolean await(LongSupplier progress, Duration patience, Runnable tick)
      throws InterruptedException {
    long seen = progress.getAsLong();
    long since = System.nanoTime();
    while (!running.await(TICK.toMillis(), TimeUnit.MILLISECONDS)) {
      tick.run();
      long now = progress.getAsLong();
      if (now != seen) {
        seen = now;
        since = System.nanoTime();
      } else if (System.nanoTime() - since > patience.toNanos()) {
        findings.error("nothing got on for " + patience.toSeconds() + " s; " + whereabouts());
        return false;
      }
    }
    return true;
  }

  /** Where the first of the threads that are still there stands. */
  private String whereabouts() {
    for (Thread thread : threads) {
      if (thread.isAlive()) {
        StackTraceElement[] stack = thread.getStackTrace();
        StringBuilder text = new StringBuilder(thread.getName() + " is at");
        for (int i = 0; i < Math.min(stack.length, 8); i++) {
          text.append(i == 0 ? " " : " < ").append(stack[i]);
        }
        return text.toString();
      }
    }
    return "no thread is left";
  }
}
