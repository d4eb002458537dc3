package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.metalstreams.MemoryModel.Check;
import dev.metalstreams.MemoryModel.Setup;
import dev.metalstreams.MemoryModel.Violation;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.logging.Logger;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A million random steps beside an oracle, and broken allocators that the oracle must catch. A
 * failure tells its seed; the system property {@code metalstreams.model.seed} shifts all seeds.
 */
@Timeout(120)
class MemoryModelTest {
  private static final int STEPS = 50_000;
  private static final int RUNS = 20;
  private static final long FIRST_SEED = Long.getLong("metalstreams.model.seed", 1);

  private static final long ROOMY = 8L << 30;
  private static final long TIGHT = 160L << 20;

  private static final List<Setup> SETUPS =
      List.of(
          new Setup(ROOMY, StealPolicy.COMPLETE, MemoryMode.CACHED, false),
          new Setup(TIGHT, StealPolicy.COMPLETE, MemoryMode.CACHED, true),
          new Setup(TIGHT, StealPolicy.WAIT, MemoryMode.CACHED, true),
          new Setup(TIGHT, StealPolicy.NEVER, MemoryMode.CACHED, true),
          new Setup(TIGHT, StealPolicy.COMPLETE, MemoryMode.NO_CACHE, true));

  @BeforeAll
  static void doNotTellOfBuffersLeftOpen() {
    Logger.getLogger("dev.metalstreams").setUseParentHandlers(false);
  }

  static List<Arguments> runs() {
    List<Arguments> runs = new ArrayList<>();
    for (int i = 0; i < RUNS; i++) {
      runs.add(Arguments.of(SETUPS.get(i % SETUPS.size()), FIRST_SEED + i));
    }
    return runs;
  }

  @ParameterizedTest
  @MethodSource("runs")
  void nothingIsReusedEarlyLostOrMiscounted(Setup setup, long seed) {
    MemoryStats stats = MemoryModel.run(setup, seed, STEPS, twin(Allocator::new));
    assertThat(stats.outOfMemories() > 0).as("memory runs out").isEqualTo(setup.crowded());
    assertThat(stats.retries() > 0).as("allocations insist").isEqualTo(setup.crowded());
    if (setup.crowded()) {
      assertThat(stats.steals() > 0)
          .as("blocks are taken from other streams")
          .isEqualTo(setup.steal() != StealPolicy.NEVER && setup.mode() == MemoryMode.CACHED);
    }
  }

  // ---- broken twins

  /** Hands a closed block to the next user without looking at other streams. */
  private static final class ReusesAtOnce extends Allocator {
    ReusesAtOnce(Device device) {
      super(device);
    }

    @Override
    boolean reusable(Uses uses) {
      return true;
    }
  }

  /** Gives blocks away without looking at any stream. */
  private static final class GivesAwayAtOnce extends Allocator {
    GivesAwayAtOnce(Device device) {
      super(device);
    }

    @Override
    boolean unused(Uses uses) {
      return true;
    }
  }

  /** Takes the fence of a recorded stream when it is recorded, not at the close. */
  private static final class FencesAtTheRecord extends Allocator {
    FencesAtTheRecord(Device device) {
      super(device);
    }

    @Override
    void record(Uses uses, DeviceStream stream) {
      uses.record(stream);
      uses.close();
    }

    @Override
    void fence(Uses uses) {}
  }

  /** Lets the CPU have memory at once. */
  private static final class MapsWithoutAWait extends Allocator {
    MapsWithoutAWait(Device device) {
      super(device);
    }

    @Override
    void awaitHostSafe(Uses uses) {}
  }

  /** Forgets what the last tenant has left under way. */
  private static final class ForgetsTheLastTenant extends Allocator {
    ForgetsTheLastTenant(Device device) {
      super(device);
    }

    @Override
    long inherited(Uses uses) {
      return 0;
    }
  }

  /** Loses sight of blocks that others still use. */
  private static final class LosesPending extends Allocator {
    LosesPending(Device device) {
      super(device);
    }

    @Override
    StreamCache cache(DeviceStream stream) {
      return new StreamCache(this, stream) {
        @Override
        void hold(BlockList list, Block block) {}
      };
    }
  }

  /** Leaves a second block over the same memory behind when it hands one out. */
  private static final class HandsOutTwice extends Allocator {
    HandsOutTwice(Device device) {
      super(device);
    }

    @Override
    StreamCache cache(DeviceStream stream) {
      return new StreamCache(this, stream) {
        @Override
        void detach(BlockList list, Block block) {
          super.detach(list, block);
          Block again = new Block(block.id, block.handle, block.size, block.sizeClass, stream);
          list.table().enter(again);
          list.table().state(again, Block.State.CACHED, 0);
          list.add(again);
        }
      };
    }
  }

  /** Takes every growth beyond a stream's own room for a new peak. */
  private static final class TakesTooMuchForAPeak extends Ledger {
    @Override
    long gather(int figure, long missing, Page page) {
      return 0;
    }
  }

  /** A twin, and the checks that may see what it does first. */
  private static Arguments caught(String name, Function<Device, Allocator> make, Check... by) {
    return Arguments.of(name, twin(make), List.of(by));
  }

  static Stream<Arguments> twins() {
    return Stream.of(
        caught("reuse before other stream", ReusesAtOnce::new, Check.EARLY_REUSE),
        caught("fence at record time", FencesAtTheRecord::new, Check.EARLY_REUSE),
        caught("map without wait", MapsWithoutAWait::new, Check.HOST_ACCESS),
        caught("lost pending", LosesPending::new, Check.KEPT_TOO_LONG),
        caught("double hand-out", HandsOutTwice::new, Check.LOST_BLOCK),
        caught(
            "wrong peak",
            device -> new Allocator(device, new TakesTooMuchForAPeak()),
            Check.FIGURES),
        caught("unused while used", GivesAwayAtOnce::new, Check.HOST_ACCESS, Check.EARLY_RELEASE),
        caught("last tenant forgotten", ForgetsTheLastTenant::new, Check.EARLY_REUSE));
  }

  private static Parts twin(Function<Device, Allocator> make) {
    return new Parts() {
      @Override
      Allocator allocator(Device device) {
        return make.apply(device);
      }

      @Override
      boolean completionThread() {
        return false; // the model drains by hand
      }
    };
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("twins")
  void everyBrokenTwinIsCaught(String name, Parts parts, List<Check> by) {
    for (Setup setup : SETUPS.subList(0, 2)) {
      Violation caught =
          catchThrowableOfType(
              Violation.class, () -> MemoryModel.run(setup, FIRST_SEED, STEPS, parts));
      assertThat(caught).as(name).isNotNull();
      assertThat(by).as(name).contains(caught.check);
    }
  }
}
