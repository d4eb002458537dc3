package dev.metalstreams.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * The user's wish to stop, mostly Ctrl-C.
 *
 * <p>The shutdown hook only sets a flag, and then holds the JVM back until the command has stopped
 * at the next job and has printed what it did, so that nobody prints while another does. The JVM
 * itself then exits with 128 plus the signal, which is 130 for Ctrl-C.
 */
final class StopSignal {
  private static final long PATIENCE_SECONDS = 20;

  private final CountDownLatch ended = new CountDownLatch(1);
  private volatile boolean requested;

  /** A signal that Ctrl-C gives. */
  static StopSignal onShutdown() {
    StopSignal signal = new StopSignal();
    Runtime.getRuntime().addShutdownHook(new Thread(signal::stopAndWait, "metalstreams-stop"));
    return signal;
  }

  private void stopAndWait() {
    request();
    try {
      boolean inTime = ended.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
      if (!inTime) {
        System.err.println(
            "metalstreams: the command did not stop within " + PATIENCE_SECONDS + " s");
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Asks to stop. */
  void request() {
    requested = true;
  }

  /** Whether to stop. */
  boolean requested() {
    return requested;
  }

  /** Says that everything is printed; without it a shutdown waits. */
  void ended() {
    ended.countDown();
  }
}
