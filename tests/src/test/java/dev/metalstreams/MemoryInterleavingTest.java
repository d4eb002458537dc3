package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.MemoryStats.Counter;
import java.util.Objects;
import org.jetbrains.lincheck.Lincheck;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Two streams allocate and close at once on one ledger, in many interleavings chosen by a model
 * checker: whatever the order, the figures add up. The twin takes room from a stream without its
 * lock, which only some interleavings betray.
 *
 * <p>The whole allocator is more than the checker can look into; {@link MemoryStressTest} runs it
 * on threads.
 */
@Timeout(120)
class MemoryInterleavingTest {
  /** How many interleavings are explored; the twin is caught within far fewer. */
  private static final int INVOCATIONS = 200;

  private static final long BYTES = 256;

  /** What threads share: the model checker follows what a static field leads to. */
  private static volatile @Nullable Ledger ledger;

  private static volatile Ledger.@Nullable Page mine;
  private static volatile Ledger.@Nullable Page others;

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

  private static void allocate(Ledger.@Nullable Page page) {
    Ledger.Page on = Objects.requireNonNull(page);
    boolean peak;
    on.lock.lock();
    try {
      peak = on.allocated(Ledger.SMALL, BYTES, BYTES);
    } finally {
      on.lock.unlock();
    }
    if (peak) {
      Objects.requireNonNull(ledger).cover(on);
    }
  }

  private static void close(Ledger.@Nullable Page page) {
    Ledger.Page on = Objects.requireNonNull(page);
    on.lock.lock();
    try {
      on.closed(Ledger.SMALL, BYTES, BYTES);
      on.idle(Ledger.SMALL, BYTES);
    } finally {
      on.lock.unlock();
    }
  }

  /** One stream has room, which the other wants while the first uses it again. */
  private static void useAtOnce(Ledger fresh) {
    ledger = fresh;
    mine = fresh.open();
    others = fresh.open();
    // Nothing is covered before both threads run: the checker explores little after loops.
    Thread there = new Thread(() -> allocate(others));
    there.start();
    allocate(mine);
    close(mine);
    allocate(mine);
    close(mine);
    try {
      there.join();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
    Counter bytes = fresh.read().counter(Ledger.ALLOCATED_BYTES, Ledger.ALL);
    boolean holds =
        bytes.current() == BYTES
            && bytes.totalIn() == 3 * BYTES
            && bytes.totalOut() == 2 * BYTES
            && bytes.peak() >= BYTES
            && bytes.peak() <= 2 * BYTES;
    if (!holds) {
      throw new AssertionError("figures do not add up: " + bytes);
    }
  }

  @AfterEach
  void shareNothing() {
    ledger = null;
    mine = null;
    others = null;
  }

  @Test
  void theFiguresAddUp() {
    Lincheck.runConcurrentTest(INVOCATIONS, () -> useAtOnce(new Ledger()));
  }

  @Test
  void aLedgerThatTakesWithoutTheLockIsCaught() {
    assertThatThrownBy(
            () ->
                Lincheck.runConcurrentTest(INVOCATIONS, () -> useAtOnce(new TakesWithoutTheLock())))
        .hasMessageContaining("figures do not add up");
  }
}
