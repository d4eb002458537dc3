package dev.metalstreams;

import static org.openjdk.jcstress.annotations.Expect.ACCEPTABLE;
import static org.openjdk.jcstress.annotations.Expect.FORBIDDEN;

import java.util.concurrent.atomic.AtomicInteger;
import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.III_Result;

/** {@link Lifetime}: a resource is freed once, not under a user, and after all that users did. */
public class LifetimeStress {

  /** What users and a closer do with it. */
  interface Life {
    boolean acquire();

    boolean release();

    boolean close();
  }

  private static final class Shipped implements Life {
    private final Lifetime lifetime = new Lifetime();

    @Override
    public boolean acquire() {
      return lifetime.acquire();
    }

    @Override
    public boolean release() {
      return lifetime.release();
    }

    @Override
    public boolean close() {
      return lifetime.close();
    }
  }

  /** Looks whether it is closed and then counts, in two steps. */
  private static final class ChecksThenCounts implements Life {
    private final AtomicInteger users = new AtomicInteger();
    private volatile boolean closed;

    @Override
    public boolean acquire() {
      if (closed) {
        return false;
      }
      users.incrementAndGet();
      return true;
    }

    @Override
    public boolean release() {
      return users.decrementAndGet() == 0 && closed;
    }

    @Override
    public boolean close() {
      closed = true;
      return users.get() == 0;
    }
  }

  /** The resource: plain fields, ordered by the lifetime alone. */
  abstract static class Race {
    private final Life life;
    private final AtomicInteger freed = new AtomicInteger();
    private int written;
    private int gone;

    Race(Life life) {
      this.life = life;
    }

    private void free(III_Result r, boolean used) {
      freed.incrementAndGet();
      if (used) {
        r.r3 = written; // what the user did is seen by who frees after it
      }
      gone = 1;
    }

    void use(III_Result r) {
      if (life.acquire()) {
        r.r2 = gone;
        written = 1;
        if (life.release()) {
          free(r, true);
        }
      }
    }

    void end(III_Result r) {
      if (life.close()) {
        free(r, false);
      }
    }

    void count(III_Result r) {
      r.r1 = freed.get();
    }
  }

  @JCStressTest
  @Outcome(id = "1, 0, 0", expect = ACCEPTABLE, desc = "freed by the closer")
  @Outcome(id = "1, 0, 1", expect = ACCEPTABLE, desc = "freed by the last user")
  @Outcome(expect = FORBIDDEN, desc = "freed twice, never, or under the user")
  @State
  public static class LifetimeFreesOnce extends Race {
    public LifetimeFreesOnce() {
      super(new Shipped());
    }

    @Actor
    public void user(III_Result r) {
      use(r);
    }

    @Actor
    public void closer(III_Result r) {
      end(r);
    }

    @Arbiter
    public void arbiter(III_Result r) {
      count(r);
    }
  }

  @JCStressTest
  @Outcome(id = "1, 0, 0", expect = ACCEPTABLE, desc = "freed by the closer")
  @Outcome(id = "1, 0, 1", expect = ACCEPTABLE, desc = "freed by the last user")
  @Outcome(expect = FORBIDDEN, desc = "freed twice, never, or under the user")
  @State
  public static class LifetimeChecksThenCountsTwin extends Race {
    public LifetimeChecksThenCountsTwin() {
      super(new ChecksThenCounts());
    }

    @Actor
    public void user(III_Result r) {
      use(r);
    }

    @Actor
    public void closer(III_Result r) {
      end(r);
    }

    @Arbiter
    public void arbiter(III_Result r) {
      count(r);
    }
  }
}
