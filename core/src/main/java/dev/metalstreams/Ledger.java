package dev.metalstreams;

import java.util.ArrayList;
import java.util.List;

/**
 * The memory statistics of a device: exact, peaks included, without a shared counter on the fast
 * path.
 *
 * <h2>Protocol</h2>
 *
 * A peak of a sum over streams cannot be had from per-stream counters. So each figure has a
 * <em>budget</em>, the peak so far, and every stream's {@link Page} holds a part of what the budget
 * leaves free, its <em>room</em>. Growth takes from the room, shrinking gives back to it.
 *
 * <ul>
 *   <li>Invariant: for each figure, budget = current total + the sum of all rooms. Every step below
 *       keeps it, whatever runs beside it.
 *   <li>A page whose room stays at 0 or above has not made a new peak: nothing else is done. This
 *       is all that the fast path does, under the lock that it holds anyway.
 *   <li>A page whose room went below 0 is {@linkplain #cover covered}: room is moved from other
 *       pages; what is still missing after that is exactly the amount by which the total exceeds
 *       the budget, and raises the budget.
 * </ul>
 *
 * <p>So the budget is the greatest total that there was. The total is the budget less the rooms.
 * While several threads allocate at once, "the greatest" is meant to within what they have in hand:
 * a total may rise and fall before its page is covered, and room may move between pages while it is
 * looked for. Current figures and totals are exact.
 *
 * <p>Locks: the ledger's monitor, then one page's lock at a time. Never the other way round.
 */
class Ledger {
  static final int ALL = 0;
  static final int SMALL = 1;
  static final int LARGE = 2;
  private static final int POOLS = 3;

  // Figures. There is one of each for every pool.
  static final int ALLOCATED_BYTES = 0;
  static final int ALLOCATED_COUNT = 1;
  static final int REQUESTED_BYTES = 2;
  static final int ACTIVE_BYTES = 3;
  static final int ACTIVE_COUNT = 4;
  static final int RESERVED_BYTES = 5;
  static final int RESERVED_COUNT = 6;
  private static final int FIGURES = 7;
  private static final int COUNT = POOLS * FIGURES;

  /** Where a figure of a pool stands in an array of all. */
  private static int at(int figure, int pool) {
    return pool * FIGURES + figure;
  }

  /** One stream's part. Its methods are called under its lock, which its stream's cache shares. */
  static final class Page {
    private static final int LOCK = Padding.LONGS;
    private static final int ROOM = LOCK + 1;
    private static final int IN = ROOM + COUNT;

    /**
     * The lock, the rooms, and what was ever added. Added is only what cannot be told from the
     * rest: nothing for {@link #ALL}, which is the sum of the pools, nor for what is active, which
     * began as allocated; and what was taken away is what was added and is no longer there.
     */
    private final long[] words = new long[IN + COUNT + Padding.LONGS];

    final BriefLock lock = new BriefLock(words, LOCK);

    long room(int at) {
      return words[ROOM + at];
    }

    long addRoom(int at, long by) {
      return words[ROOM + at] += by;
    }

    private long in(int at) {
      return words[IN + at];
    }

    /** How many blocks it has counted as handed out. */
    long handedOut() {
      return in(at(ALLOCATED_COUNT, SMALL)) + in(at(ALLOCATED_COUNT, LARGE));
    }

    /** A figure grows in its pool and in all; negative if the page must be covered. */
    private long grow(int figure, int pool, long by) {
      return addRoom(at(figure, ALL), -by) | addRoom(at(figure, pool), -by);
    }

    private void shrink(int figure, int pool, long by) {
      addRoom(at(figure, ALL), by);
      addRoom(at(figure, pool), by);
    }

    private void add(int figure, int pool, long by) {
      words[IN + at(figure, pool)] += by;
    }

    /** A block was handed out; true if the page must be covered. */
    boolean allocated(int pool, long size, long requested) {
      add(ALLOCATED_BYTES, pool, size);
      add(ALLOCATED_COUNT, pool, 1);
      add(REQUESTED_BYTES, pool, requested);
      return (grow(ALLOCATED_BYTES, pool, size)
              | grow(ALLOCATED_COUNT, pool, 1)
              | grow(REQUESTED_BYTES, pool, requested)
              | grow(ACTIVE_BYTES, pool, size)
              | grow(ACTIVE_COUNT, pool, 1))
          < 0;
    }

    /** The user's side of a block has ended. */
    void closed(int pool, long size, long requested) {
      shrink(ALLOCATED_BYTES, pool, size);
      shrink(ALLOCATED_COUNT, pool, 1);
      shrink(REQUESTED_BYTES, pool, requested);
    }

    /** No stream but the owner uses the block any more. */
    void idle(int pool, long size) {
      shrink(ACTIVE_BYTES, pool, size);
      shrink(ACTIVE_COUNT, pool, 1);
    }
  }

  final List<Page> pages = new ArrayList<>();
  private final long[] budget = new long[COUNT];
  private final long[] zeroIn = new long[COUNT];
  private final long[] zeroOut = new long[COUNT];

  /** What the driver has given; a page of its own, since it changes only on the slow path. */
  private final Page reserved;

  /** Bytes that the driver has been asked for and has not given yet. */
  private long promised;

  Ledger() {
    reserved = new Page();
    pages.add(reserved);
  }

  /** Opens the page of one more stream. */
  synchronized Page open() {
    Page page = new Page();
    pages.add(page);
    return page;
  }

  /** Counts bytes towards a limit until it is known whether the driver gives them. */
  synchronized boolean promise(long size, long limit) {
    if (reservedBytes() + promised > limit - size) {
      return false;
    }
    promised += size;
    return true;
  }

  /** The driver has given what was promised. */
  synchronized void kept(int pool, long size) {
    promised -= size;
    reserved.add(RESERVED_BYTES, pool, size);
    reserved.add(RESERVED_COUNT, pool, 1);
    if ((reserved.grow(RESERVED_BYTES, pool, size) | reserved.grow(RESERVED_COUNT, pool, 1)) < 0) {
      cover(reserved);
    }
  }

  /** The driver has refused what was promised. */
  synchronized void withdrawn(long size) {
    promised -= size;
  }

  /** The driver has got a block back. */
  synchronized void returned(int pool, long size) {
    reserved.shrink(RESERVED_BYTES, pool, size);
    reserved.shrink(RESERVED_COUNT, pool, 1);
  }

  /** Bytes held from the driver. */
  synchronized long reservedBytes() {
    return budget[RESERVED_BYTES] - reserved.room(RESERVED_BYTES);
  }

  /** Brings every room of a page back to 0 or above. Called without a page's lock. */
  synchronized void cover(Page page) {
    for (int figure = 0; figure < budget.length; figure++) {
      long missing;
      page.lock.lock();
      try {
        missing = -page.room(figure);
      } finally {
        page.lock.unlock();
      }
      if (missing <= 0) {
        continue;
      }
      budget[figure] += missing - gather(figure, missing, page);
      page.lock.lock();
      try {
        page.addRoom(figure, missing);
      } finally {
        page.lock.unlock();
      }
    }
  }

  /** Takes room from other pages than one, as much as is missing if there is so much. */
  long gather(int figure, long missing, Page page) {
    long found = 0;
    for (Page other : pages) {
      if (other != page && found < missing) {
        other.lock.lock();
        try {
          long spare = Math.min(Math.max(other.room(figure), 0), missing - found);
          other.addRoom(figure, -spare);
          found += spare;
        } finally {
          other.lock.unlock();
        }
      }
    }
    return found;
  }

  /** All figures at one moment of each page. */
  synchronized Figures read() {
    long[] current = budget.clone();
    long[] in = new long[budget.length];
    for (Page page : pages) {
      page.lock.lock();
      try {
        for (int i = 0; i < budget.length; i++) {
          current[i] -= page.room(i);
          in[i] += page.in(i);
        }
      } finally {
        page.lock.unlock();
      }
    }
    for (int pool = SMALL; pool < POOLS; pool++) {
      in[at(ACTIVE_BYTES, pool)] = in[at(ALLOCATED_BYTES, pool)];
      in[at(ACTIVE_COUNT, pool)] = in[at(ALLOCATED_COUNT, pool)];
      for (int figure = 0; figure < FIGURES; figure++) {
        in[at(figure, ALL)] += in[at(figure, pool)];
      }
    }
    long[] peak = new long[budget.length];
    long[] out = new long[budget.length];
    for (int i = 0; i < budget.length; i++) {
      peak[i] = Math.max(budget[i], current[i]);
      out[i] = in[i] - current[i] - zeroOut[i];
      in[i] -= zeroIn[i];
    }
    return new Figures(current, peak, in, out);
  }

  /** Makes every peak the current total. */
  synchronized void resetPeak() {
    for (Page page : pages) {
      page.lock.lock();
      try {
        for (int figure = 0; figure < budget.length; figure++) {
          budget[figure] -= page.room(figure);
          page.addRoom(figure, -page.room(figure));
        }
      } finally {
        page.lock.unlock();
      }
    }
  }

  /** Starts the totals in and out anew. */
  synchronized void resetAccumulated() {
    Figures now = read();
    for (int figure = 0; figure < budget.length; figure++) {
      zeroIn[figure] += now.in[figure];
      zeroOut[figure] += now.out[figure];
    }
  }

  /** Numbers by figure and pool. Immutable once made. */
  static final class Figures {
    private final long[] current;
    private final long[] peak;
    private final long[] in;
    private final long[] out;

    private Figures(long[] current, long[] peak, long[] in, long[] out) {
      this.current = current;
      this.peak = peak;
      this.in = in;
      this.out = out;
    }

    MemoryStats.Counter counter(int figure, int pool) {
      int at = at(figure, pool);
      return new MemoryStats.Counter(current[at], peak[at], in[at], out[at]);
    }
  }
}
