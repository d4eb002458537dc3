package dev.metalstreams.script;

import java.util.concurrent.CountDownLatch;

/** Threads that are kept at the start of a method of the driver, until they may go on. */
public final class Halt {
  private final CountDownLatch reached = new CountDownLatch(1);
  private final CountDownLatch over = new CountDownLatch(1);

  Halt() {}

  /** What a thread does that comes to it. */
  void keep() {
    reached.countDown();
    try {
      over.await();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  /** Returns once a thread has come to it. */
  public void awaitReached() throws InterruptedException {
    reached.await();
  }

  /** Lets go of all, and of whoever comes later. */
  public void end() {
    over.countDown();
  }
}
