package dev.metalstreams;

import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Something that runs on a thread of its own, and whose thread can be watched. */
final class Background<T> {
  private final FutureTask<T> task;
  private final Thread thread;

  private Background(Callable<T> work, Thread.Builder builder) {
    this.task = new FutureTask<>(work);
    this.thread = builder.start(task);
  }

  /** Work that may throw. */
  interface Work {
    void run() throws Exception;
  }

  static <T> Background<T> call(Callable<T> work) {
    return new Background<>(work, Thread.ofPlatform().daemon());
  }

  static Background<Boolean> run(Work work) {
    return new Background<>(done(work), Thread.ofPlatform().daemon());
  }

  static Background<Boolean> runVirtually(Work work) {
    return new Background<>(done(work), Thread.ofVirtual());
  }

  private static Callable<Boolean> done(Work work) {
    return () -> {
      work.run();
      return true;
    };
  }

  /** Returns once the thread waits for something, or is over. No time is assumed. */
  Background<T> untilParked() {
    while (!isParked() && !over()) {
      Thread.onSpinWait();
    }
    return this;
  }

  private boolean isParked() {
    Thread.State state = thread.getState();
    return state == Thread.State.WAITING || state == Thread.State.TIMED_WAITING;
  }

  boolean over() {
    return task.isDone();
  }

  Thread thread() {
    return thread;
  }

  /** The result, or what the work threw. */
  T get() throws Exception {
    return get(Duration.ofHours(1));
  }

  /** The same, within a time; work that takes longer hangs, and is interrupted. */
  T get(Duration patience) throws Exception {
    try {
      return task.get(patience.toNanos(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException e) {
      thread.interrupt();
      throw new AssertionError("hangs", e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Exception exception) {
        throw exception;
      }
      if (e.getCause() instanceof Error error) {
        throw error;
      }
      throw e;
    }
  }
}
