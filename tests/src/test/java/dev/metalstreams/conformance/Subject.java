package dev.metalstreams.conformance;

import dev.metalstreams.driver.Driver;

/** A driver to test, with the hooks that let a test decide order and failure. */
interface Subject {

  /** Opens a device that runs by itself. Called several times: devices are independent. */
  Driver open();

  /** Keeps the queue from starting command buffers. */
  void hold(Driver driver, long queue);

  /** Ends {@link #hold}. */
  void release(Driver driver, long queue);

  /**
   * The next command buffer that is executed on the queue fails with EXECUTION. Nothing else may be
   * runnable.
   */
  void failNext(Driver driver, long queue);

  /** Returns when the failure of {@link #failNext} can strike none but that queue any more. */
  void awaitStruck();

  /** Sets the memory limit. */
  void memoryLimit(Driver driver, long bytes);

  /**
   * Whether nothing is executed after a wait for a failure, even one that is not known when the
   * wait is encoded. On Metal what is written then is undefined.
   */
  boolean stopsAtFailedWaits();
}
