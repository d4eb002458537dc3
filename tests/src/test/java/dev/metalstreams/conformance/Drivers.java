package dev.metalstreams.conformance;

/** The drivers that the conformance tests run on. */
enum Drivers {
  /** The scripted driver, whose waiters park. */
  SCRIPTED {
    @Override
    Subject subject() {
      return new ScriptedSubject(false);
    }
  },
  /** The scripted driver, whose waiters wait in the driver. */
  SCRIPTED_AWAIT {
    @Override
    Subject subject() {
      return new ScriptedSubject(true);
    }
  },
  /** The host shim with two workers and the BLAS that is there. */
  HOST {
    @Override
    Subject subject() {
      return new HostSubject(2, "auto", 0);
    }
  },
  /**
   * The host shim with one worker, which nobody may tie up, an order that is drawn, and the
   * built-in kernel.
   */
  HOST_SINGLE_BUILTIN {
    @Override
    Subject subject() {
      return new HostSubject(1, "builtin", 42);
    }
  };

  abstract Subject subject();
}
