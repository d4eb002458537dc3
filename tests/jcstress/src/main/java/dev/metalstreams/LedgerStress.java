package dev.metalstreams;

import static org.openjdk.jcstress.annotations.Expect.ACCEPTABLE;
import static org.openjdk.jcstress.annotations.Expect.FORBIDDEN;

import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.III_Result;

/** {@link Ledger}: whatever two streams do at once, the figures add up and the peak was there. */
public class LedgerStress {

  /** Takes room from other pages as it found it, and not as it is. */
  private static final class TakesWithoutTheLock extends Ledger {
    @Override
    long gather(int figure, long missing, Page page) {
      long found = 0;
      for (Page other : pages) {
        if (other != page && found < missing) {
          long spare = Math.min(Math.max(other.room(figure), 0), missing - found);
          other.addRoom(figure, -spare);
          found += spare;
        }
      }
      return found;
    }
  }

  abstract static class Race {
    private final Ledger ledger;
    private final Ledger.Page first;
    private final Ledger.Page second;

    Race(Ledger ledger) {
      this.ledger = ledger;
      this.first = ledger.open();
      this.second = ledger.open();
    }

    private void allocate(Ledger.Page page) {
      boolean peak;
      page.lock.lock();
      try {
        peak = page.allocated(Ledger.SMALL, 256, 1);
      } finally {
        page.lock.unlock();
      }
      if (peak) {
        ledger.cover(page);
      }
    }

    private static void close(Ledger.Page page) {
      page.lock.lock();
      try {
        page.closed(Ledger.SMALL, 256, 1);
        page.idle(Ledger.SMALL, 256);
      } finally {
        page.lock.unlock();
      }
    }

    void useOne() {
      allocate(first);
      close(first);
      allocate(first);
      close(first);
    }

    void useOther() {
      allocate(second);
    }

    void read(III_Result r) {
      MemoryStats.Counter count = ledger.read().counter(Ledger.ALLOCATED_COUNT, Ledger.ALL);
      r.r1 = (int) count.current();
      r.r2 = (int) count.totalIn();
      r.r3 = (int) count.peak();
    }
  }

  @JCStressTest
  @Outcome(id = "1, 3, [12]", expect = ACCEPTABLE, desc = "adds up")
  @Outcome(expect = FORBIDDEN, desc = "does not add up")
  @State
  public static class LedgerAddsUp extends Race {
    public LedgerAddsUp() {
      super(new Ledger());
    }

    @Actor
    public void first() {
      useOne();
    }

    @Actor
    public void second() {
      useOther();
    }

    @Arbiter
    public void arbiter(III_Result r) {
      read(r);
    }
  }

  @JCStressTest
  @Outcome(id = "1, 3, [12]", expect = ACCEPTABLE, desc = "adds up")
  @Outcome(expect = FORBIDDEN, desc = "does not add up")
  @State
  public static class LedgerTakesWithoutTheLockTwin extends Race {
    public LedgerTakesWithoutTheLockTwin() {
      super(new TakesWithoutTheLock());
    }

    @Actor
    public void first() {
      useOne();
    }

    @Actor
    public void second() {
      useOther();
    }

    @Arbiter
    public void arbiter(III_Result r) {
      read(r);
    }
  }
}
