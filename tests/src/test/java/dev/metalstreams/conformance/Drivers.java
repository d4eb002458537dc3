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
  };

  abstract Subject subject();
}
