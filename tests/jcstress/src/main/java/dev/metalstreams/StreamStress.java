package dev.metalstreams;

import static org.openjdk.jcstress.annotations.Expect.ACCEPTABLE;
import static org.openjdk.jcstress.annotations.Expect.FORBIDDEN;

import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.II_Result;

/** {@link Uses} and {@link StreamPool}: what one thread notes, another relies on. */
public class StreamStress {
  private static final Device DEVICE = Device.builder().backend("host").workers(1).open();
  private static final DeviceStream OWNER = DEVICE.streams().stream(1);
  private static final DeviceStream OTHER = DEVICE.streams().stream(2);

  // ---- uses

  /** A use is noted before its command buffer can be committed: who knows of the work counts it. */
  @JCStressTest
  @Outcome(id = "1, 1", expect = FORBIDDEN, desc = "committed, and the block counts as unused")
  @Outcome(expect = ACCEPTABLE, desc = "whoever knows of the work, knows of the use")
  @State
  public static class UsesAreNotedBeforeTheCommit {
    private final Uses uses = new Uses(OWNER);
    private volatile int committed;

    @Actor
    public void encoder() {
      uses.add(OTHER, 7);
      committed = 1;
    }

    @Actor
    public void closer(II_Result r) {
      r.r1 = committed;
      uses.close();
      r.r2 = uses.othersPassed() ? 1 : 0;
    }
  }

  @JCStressTest
  @Outcome(id = "1, 1", expect = FORBIDDEN, desc = "committed, and the block counts as unused")
  @Outcome(expect = ACCEPTABLE, desc = "whoever knows of the work, knows of the use")
  @State
  public static class UsesNotedAfterTheCommitTwin {
    private final Uses uses = new Uses(OWNER);
    private volatile int committed;

    @Actor
    public void encoder() {
      committed = 1;
      uses.add(OTHER, 7);
    }

    @Actor
    public void closer(II_Result r) {
      r.r1 = committed;
      uses.close();
      r.r2 = uses.othersPassed() ? 1 : 0;
    }
  }

  // ---- scopes

  /** The flag that says that there are scopes is plain: each scope sets it for itself. */
  @JCStressTest
  @Outcome(id = "1, 1", expect = ACCEPTABLE, desc = "each is in its own scope")
  @Outcome(expect = FORBIDDEN, desc = "a scope without effect")
  @State
  public static class ScopesAreSeenFromWithin {
    private final StreamPool pool = new StreamPool(DEVICE, DEVICE.settings());

    @Actor
    public void first(II_Result r) {
      pool.runWith(OWNER, () -> r.r1 = pool.current() == OWNER ? 1 : 0);
    }

    @Actor
    public void second(II_Result r) {
      pool.runWith(OTHER, () -> r.r2 = pool.current() == OTHER ? 1 : 0);
    }
  }

  /** Says that there are scopes once the first has ended. */
  @JCStressTest
  @Outcome(id = "1, 1", expect = ACCEPTABLE, desc = "each is in its own scope")
  @Outcome(expect = FORBIDDEN, desc = "a scope without effect")
  @State
  public static class ScopesToldAfterwardsTwin {
    private final ScopedValue<DeviceStream> scoped = ScopedValue.newInstance();
    private boolean hasScopes;

    private int runWith(DeviceStream stream) {
      int within =
          ScopedValue.where(scoped, stream).call(() -> hasScopes && scoped.isBound() ? 1 : 0);
      hasScopes = true;
      return within;
    }

    @Actor
    public void first(II_Result r) {
      r.r1 = runWith(OWNER);
    }

    @Actor
    public void second(II_Result r) {
      r.r2 = runWith(OTHER);
    }
  }
}
