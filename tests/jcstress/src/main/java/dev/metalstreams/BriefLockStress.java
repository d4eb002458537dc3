package dev.metalstreams;

import static org.openjdk.jcstress.annotations.Expect.ACCEPTABLE;
import static org.openjdk.jcstress.annotations.Expect.FORBIDDEN;

import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.I_Result;

/** {@link BriefLock}: one holder at a time, who sees what the holder before has written. */
public class BriefLockStress {

  @JCStressTest
  @Outcome(id = "2", expect = ACCEPTABLE, desc = "one after the other")
  @Outcome(expect = FORBIDDEN, desc = "two holders at once, or what one wrote is lost")
  @State
  public static class BriefLockHasOneHolder {
    private final BriefLock lock = new BriefLock();
    private int count;

    private void add() {
      lock.lock();
      try {
        count++;
      } finally {
        lock.unlock();
      }
    }

    @Actor
    public void first() {
      add();
    }

    @Actor
    public void second() {
      add();
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = count;
    }
  }

  /** Looks whether the lock is free and takes it, in two steps. */
  @JCStressTest
  @Outcome(id = "2", expect = ACCEPTABLE, desc = "one after the other")
  @Outcome(expect = FORBIDDEN, desc = "two holders at once, or what one wrote is lost")
  @State
  public static class BriefLockLooksThenTakesTwin {
    private volatile boolean held;
    private int count;

    private void add() {
      while (held) {
        Thread.onSpinWait();
      }
      held = true;
      count++;
      held = false;
    }

    @Actor
    public void first() {
      add();
    }

    @Actor
    public void second() {
      add();
    }

    @Arbiter
    public void arbiter(I_Result r) {
      r.r1 = count;
    }
  }
}
