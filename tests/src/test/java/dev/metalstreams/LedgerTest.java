package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.MemoryStats.Counter;
import org.junit.jupiter.api.Test;

/** The figures alone, on two pages: exact, peaks included, wherever memory comes and goes. */
class LedgerTest {
  private final Ledger ledger = new Ledger();
  private final Ledger.Page one = ledger.open();
  private final Ledger.Page two = ledger.open();

  /** A block comes and is in use, as a stream's cache tells it. */
  private void allocate(Ledger.Page page, int pool, long size, long requested) {
    if (page.allocated(pool, size, requested)) {
      ledger.cover(page);
    }
  }

  private static void close(Ledger.Page page, int pool, long size, long requested) {
    page.closed(pool, size, requested);
    page.idle(pool, size);
  }

  private Counter counter(int figure, int pool) {
    return ledger.read().counter(figure, pool);
  }

  private Counter bytes() {
    return counter(Ledger.ALLOCATED_BYTES, Ledger.ALL);
  }

  @Test
  void thePeakIsThatOfTheSumAndNotTheSumOfPeaks() {
    allocate(one, Ledger.SMALL, 100, 90);
    close(one, Ledger.SMALL, 100, 90);
    allocate(two, Ledger.SMALL, 60, 60);
    assertThat(bytes())
        .as("they were never there together")
        .isEqualTo(new Counter(60, 100, 160, 100));
    allocate(two, Ledger.SMALL, 60, 60);
    assertThat(bytes()).isEqualTo(new Counter(120, 120, 220, 100));
    allocate(one, Ledger.SMALL, 7, 5);
    assertThat(bytes()).isEqualTo(new Counter(127, 127, 227, 100));
    close(two, Ledger.SMALL, 60, 60);
    close(two, Ledger.SMALL, 60, 60);
    allocate(one, Ledger.SMALL, 130, 130); // with all that the other page has left
    assertThat(bytes()).isEqualTo(new Counter(137, 137, 357, 220));
    close(one, Ledger.SMALL, 130, 130);
    allocate(two, Ledger.SMALL, 10, 10);
    allocate(one, Ledger.SMALL, 10, 10);
    assertThat(bytes()).as("room for both").isEqualTo(new Counter(27, 137, 377, 350));
  }

  @Test
  void noMoreRoomIsTakenFromAPageThanItHas() {
    Ledger.Page three = ledger.open();
    allocate(one, Ledger.SMALL, 40, 40);
    allocate(two, Ledger.SMALL, 40, 40);
    close(one, Ledger.SMALL, 40, 40);
    close(two, Ledger.SMALL, 40, 40);
    allocate(three, Ledger.SMALL, 50, 50); // 40 of the first, 10 of the second
    assertThat(one.room(0)).isZero();
    assertThat(two.room(0)).isEqualTo(30);
    assertThat(three.room(0)).isZero();
    assertThat(bytes().peak()).isEqualTo(80);
    allocate(one, Ledger.SMALL, 30, 30);
    assertThat(two.room(0)).isZero();
    assertThat(bytes().peak()).isEqualTo(80);
    allocate(one, Ledger.SMALL, 1, 1);
    assertThat(bytes()).isEqualTo(new Counter(81, 81, 161, 80));
  }

  @Test
  void poolsAreCountedApartAndTogether() {
    allocate(one, Ledger.SMALL, 100, 90);
    allocate(two, Ledger.LARGE, 3000, 2500);
    two.closed(Ledger.LARGE, 3000, 2500); // others still use it
    assertThat(counter(Ledger.ALLOCATED_BYTES, Ledger.ALL))
        .isEqualTo(new Counter(100, 3100, 3100, 3000));
    assertThat(counter(Ledger.ALLOCATED_BYTES, Ledger.SMALL))
        .isEqualTo(new Counter(100, 100, 100, 0));
    assertThat(counter(Ledger.ALLOCATED_BYTES, Ledger.LARGE))
        .isEqualTo(new Counter(0, 3000, 3000, 3000));
    assertThat(counter(Ledger.ALLOCATED_COUNT, Ledger.ALL)).isEqualTo(new Counter(1, 2, 2, 1));
    assertThat(counter(Ledger.REQUESTED_BYTES, Ledger.ALL))
        .isEqualTo(new Counter(90, 2590, 2590, 2500));
    assertThat(counter(Ledger.ACTIVE_BYTES, Ledger.ALL))
        .isEqualTo(new Counter(3100, 3100, 3100, 0));
    assertThat(counter(Ledger.ACTIVE_COUNT, Ledger.LARGE)).isEqualTo(new Counter(1, 1, 1, 0));
    two.idle(Ledger.LARGE, 3000);
    assertThat(counter(Ledger.ACTIVE_BYTES, Ledger.LARGE))
        .isEqualTo(new Counter(0, 3000, 3000, 3000));
    assertThat(counter(Ledger.ACTIVE_COUNT, Ledger.ALL)).isEqualTo(new Counter(1, 2, 2, 1));
  }

  /** Each time one figure alone is larger than it ever was. */
  @Test
  void everyFigureHasAPeakOfItsOwn() {
    allocate(one, Ledger.SMALL, 100, 50);
    close(one, Ledger.SMALL, 100, 50);
    allocate(one, Ledger.LARGE, 100, 50);
    close(one, Ledger.LARGE, 100, 50);
    assertThat(counter(Ledger.ALLOCATED_BYTES, Ledger.LARGE).peak()).isEqualTo(100);
    assertThat(counter(Ledger.ACTIVE_COUNT, Ledger.LARGE).peak()).isEqualTo(1);
    allocate(one, Ledger.SMALL, 100, 90);
    close(one, Ledger.SMALL, 100, 90);
    assertThat(counter(Ledger.REQUESTED_BYTES, Ledger.ALL).peak()).isEqualTo(90);
    allocate(one, Ledger.SMALL, 100, 90);
    one.closed(Ledger.SMALL, 100, 90);
    allocate(one, Ledger.SMALL, 100, 90); // while others still use the first
    close(one, Ledger.SMALL, 100, 90);
    one.idle(Ledger.SMALL, 100);
    assertThat(counter(Ledger.ALLOCATED_BYTES, Ledger.ALL).peak()).isEqualTo(100);
    assertThat(counter(Ledger.ACTIVE_BYTES, Ledger.ALL)).isEqualTo(new Counter(0, 200, 500, 500));
    assertThat(counter(Ledger.ACTIVE_COUNT, Ledger.SMALL).peak()).isEqualTo(2);
    for (long size : new long[] {60, 100}) {
      assertThat(ledger.promise(size, 1000)).isTrue();
      ledger.kept(Ledger.SMALL, size);
      ledger.returned(Ledger.SMALL, size);
    }
    assertThat(counter(Ledger.RESERVED_BYTES, Ledger.ALL).peak()).isEqualTo(100);
  }

  @Test
  void whatIsPromisedCountsTowardsTheLimit() {
    assertThat(ledger.promise(60, 100)).isTrue();
    assertThat(ledger.promise(41, 100)).isFalse();
    assertThat(ledger.promise(40, 100)).isTrue();
    ledger.withdrawn(40);
    assertThat(ledger.reservedBytes()).as("nothing was given yet").isZero();
    ledger.kept(Ledger.SMALL, 60);
    assertThat(ledger.reservedBytes()).isEqualTo(60);
    assertThat(ledger.promise(41, 100)).isFalse();
    assertThat(ledger.promise(40, 100)).isTrue();
    ledger.withdrawn(40);
    ledger.returned(Ledger.SMALL, 60);
    assertThat(ledger.reservedBytes()).isZero();
    assertThat(ledger.promise(100, 100)).isTrue();
    ledger.kept(Ledger.LARGE, 100);
    assertThat(counter(Ledger.RESERVED_BYTES, Ledger.ALL))
        .isEqualTo(new Counter(100, 100, 160, 60));
    assertThat(counter(Ledger.RESERVED_COUNT, Ledger.ALL)).isEqualTo(new Counter(1, 1, 2, 1));
    assertThat(counter(Ledger.RESERVED_BYTES, Ledger.SMALL)).isEqualTo(new Counter(0, 60, 60, 60));
    assertThat(ledger.promise(Long.MAX_VALUE, Long.MAX_VALUE)).as("of no limit").isFalse();
  }

  @Test
  void aPeakBeginsAnewWithWhatIsThere() {
    allocate(one, Ledger.SMALL, 100, 100);
    allocate(two, Ledger.SMALL, 50, 50);
    close(one, Ledger.SMALL, 100, 100);
    ledger.resetPeak();
    assertThat(bytes()).isEqualTo(new Counter(50, 50, 150, 100));
    allocate(one, Ledger.SMALL, 10, 10);
    close(one, Ledger.SMALL, 10, 10);
    assertThat(bytes()).isEqualTo(new Counter(50, 60, 160, 110));
  }

  @Test
  void totalsBeginAnewWithoutWhatIsThere() {
    allocate(one, Ledger.SMALL, 100, 100);
    allocate(two, Ledger.SMALL, 50, 50);
    close(one, Ledger.SMALL, 100, 100);
    ledger.resetAccumulated();
    assertThat(bytes()).isEqualTo(new Counter(50, 150, 0, 0));
    close(two, Ledger.SMALL, 50, 50);
    allocate(one, Ledger.SMALL, 7, 7);
    assertThat(bytes()).isEqualTo(new Counter(7, 150, 7, 50));
    ledger.resetAccumulated();
    assertThat(bytes()).isEqualTo(new Counter(7, 150, 0, 0));
    assertThat(counter(Ledger.ALLOCATED_COUNT, Ledger.ALL)).isEqualTo(new Counter(1, 2, 0, 0));
  }
}
