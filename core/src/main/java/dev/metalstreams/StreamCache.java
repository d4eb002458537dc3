package dev.metalstreams;

import dev.metalstreams.MemoryEvent.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * The blocks of one stream: those in use, those that other streams still use, and those that are
 * free for the next allocation on this stream.
 *
 * <p>Allocating from a free list and closing back to it touch nothing but this object: its {@link
 * BriefLock} is the only lock, held for a few instructions, never across a downcall or a wait. It
 * guards the stream's page of the {@link Ledger} too.
 *
 * <p>A free block may still be used by queued work of <em>this</em> stream: its next user on the
 * device runs after that work. So the newest free block is the best for the device (it is warm),
 * and the oldest the best for the CPU, which may not touch a block before that work is done.
 */
class StreamCache {
  private final Allocator allocator;
  private final DeviceStream stream;
  private final Ledger.Page page;
  private final BriefLock lock;
  private final Leaks leaks;

  /** By size class; null for a class that has never been used. */
  private final @Nullable BlockList[] free = new BlockList[SizeClasses.COUNT];

  /** Those of {@code free} that there are: few, as a rule. */
  private final List<BlockList> lists = new ArrayList<>();

  private final BlockTable table = new BlockTable();
  private final Tenancies tenancies = new Tenancies();
  private final BlockList pending = new BlockList(table);

  /** The device is closed: nothing is kept any more. */
  private boolean ended;

  /** Bytes in {@code pending}; read without the lock to skip an empty list. */
  private volatile long pendingBytes;

  StreamCache(Allocator allocator, DeviceStream stream) {
    this.allocator = allocator;
    this.stream = stream;
    this.page = allocator.ledger().open();
    this.lock = page.lock;
    this.leaks = allocator.leaks();
  }

  // ---- the fast path

  /** Hands out a free block of a class, or null. For the CPU only a block that no work uses. */
  final @Nullable DeviceBuffer take(int sizeClass, long bytes, boolean forHost) {
    DeviceBuffer buffer;
    boolean peak;
    lock.lock();
    try {
      BlockList list = free[sizeClass];
      Block block = list == null ? null : forHost ? list.oldest() : list.newest();
      if (block == null || list == null || (forHost && !allocator.unused(block.uses))) {
        return null;
      }
      buffer = handle(block, bytes);
      detach(list, block);
      peak = lend(block, buffer);
    } finally {
      lock.unlock();
    }
    if (peak) {
      allocator.ledger().cover(page);
    }
    return buffer;
  }

  /** Hands out a block that the caller has taken or made. */
  final DeviceBuffer adopt(Block block, long bytes) {
    DeviceBuffer buffer;
    boolean peak;
    lock.lock();
    try {
      buffer = handle(block, bytes);
      table.enter(block);
      peak = lend(block, buffer);
    } finally {
      lock.unlock();
    }
    if (peak) {
      allocator.ledger().cover(page);
    }
    return buffer;
  }

  private DeviceBuffer handle(Block block, long bytes) {
    block.uses.begin();
    return new DeviceBuffer(stream, block, bytes, leaks, leaks.site(page.handedOut()));
  }

  private boolean lend(Block block, DeviceBuffer buffer) {
    table.state(block, Block.State.IN_USE, allocator.clock());
    table.requested(block, buffer.byteSize());
    tenancies.add(buffer.tenancy());
    return page.allocated(block.pool(), block.size, buffer.byteSize());
  }

  /**
   * The user's side of a block has ended. Returns its new state: pending, cached, or taken if the
   * caller has to see to it.
   */
  final Block.State close(Tenancy tenancy, boolean keep) {
    Block block = tenancy.block;
    lock.lock();
    try {
      tenancies.remove(tenancy);
      page.closed(block.pool(), block.size, table.requested(block));
      table.requested(block, 0);
      if (settles(block, keep)) {
        return settle(block, keep);
      }
      table.state(block, Block.State.PENDING, allocator.clock());
      hold(pending, block);
      countPending(block.size);
      return Block.State.PENDING;
    } finally {
      lock.unlock();
    }
  }

  /** Under the lock. */
  private void countPending(long by) {
    long now = pendingBytes;
    pendingBytes = now + by;
  }

  private boolean settles(Block block, boolean keep) {
    return ended || (keep ? allocator.reusable(block.uses) : allocator.unused(block.uses));
  }

  /** A closed block is done with: to its free list, or into the caller's hands. */
  private Block.State settle(Block block, boolean keep) {
    page.idle(block.pool(), block.size);
    if (keep && !ended) {
      cache(block);
      return Block.State.CACHED;
    }
    takeAway(block);
    return Block.State.TAKEN;
  }

  /** A block that is in no list goes into the caller's hands. */
  private void takeAway(Block block) {
    table.leave(block);
  }

  private void cache(Block block) {
    block.uses.forgetOthers();
    BlockList list = free[block.sizeClass];
    if (list == null) {
      list = new BlockList(table);
      lists.add(list);
      free[block.sizeClass] = list;
    }
    table.state(block, Block.State.CACHED, allocator.clock());
    list.add(block);
  }

  // ---- what a broken twin may get wrong

  /** A block that is handed out leaves its free list. */
  void detach(BlockList list, Block block) {
    list.remove(block);
  }

  /** A block that others still use is kept in sight. */
  void hold(BlockList list, Block block) {
    list.add(block);
  }

  /**
   * Whether a free list of this cache has a block that was seen some time ago. Nothing else of the
   * block says so: it may be with another user or stream, or on the way, by now.
   */
  boolean has(BlockList list, Block block) {
    return list.has(block);
  }

  // ---- off the fast path

  final boolean hasPending() {
    return pendingBytes > 0;
  }

  final long pendingBytes() {
    return pendingBytes;
  }

  /** Settles pending blocks whose work is done; returns those that the caller has to see to. */
  final List<Block> reclaim() {
    if (pendingBytes == 0) {
      return List.of();
    }
    List<Block> done = new ArrayList<>();
    List<Block> out = new ArrayList<>();
    lock.lock();
    try {
      Block block = pending.oldest();
      while (block != null) {
        Block next = pending.after(block);
        boolean keep = allocator.keeps(block);
        if (settles(block, keep)) {
          pending.remove(block);
          countPending(-block.size);
          done.add(block);
          if (settle(block, keep) == Block.State.TAKEN) {
            out.add(block);
          }
        }
        block = next;
      }
    } finally {
      lock.unlock();
    }
    for (Block block : done) {
      allocator.log().tell(Kind.FREE_COMPLETED, block.id, block.size, stream.index());
    }
    return out;
  }

  /** What uses the pending block that has waited longest, or else a free block; null if none. */
  final @Nullable Uses outstanding() {
    lock.lock();
    try {
      Block first = pending.oldest();
      if (first != null) {
        return first.uses;
      }
      for (BlockList list : lists) {
        for (Block block = list.oldest(); block != null; block = list.after(block)) {
          if (!allocator.unused(block.uses)) {
            return block.uses;
          }
        }
      }
      return null;
    } finally {
      lock.unlock();
    }
  }

  /** Takes out one free block of a class that matches, oldest first. */
  final @Nullable Block steal(int sizeClass, Predicate<Block> which) {
    lock.lock();
    try {
      BlockList list = free[sizeClass];
      Block block = list == null ? null : list.oldest();
      while (block != null && list != null) {
        if (which.test(block)) {
          list.remove(block);
          takeAway(block);
          return block;
        }
        block = list.after(block);
      }
      return null;
    } finally {
      lock.unlock();
    }
  }

  /** A free block that no work used, and since when: others may have taken it by now. */
  record Idle(Block block, long since) {}

  /** The free blocks that no work uses, left where they are. */
  final void idle(List<Idle> into) {
    lock.lock();
    try {
      for (BlockList list : lists) {
        for (Block block = list.oldest(); block != null; block = list.after(block)) {
          if (allocator.unused(block.uses)) {
            into.add(new Idle(block, table.stamp(block)));
          }
        }
      }
    } finally {
      lock.unlock();
    }
  }

  /** Takes out this block if it is free here and no work uses it. */
  final boolean takeOut(Block block) {
    lock.lock();
    try {
      BlockList list = free[block.sizeClass];
      if (list == null || !has(list, block) || !allocator.unused(block.uses)) {
        return false;
      }
      list.remove(block);
      takeAway(block);
      return true;
    } finally {
      lock.unlock();
    }
  }

  /** Puts a block that was taken out into its free list; false if nothing is kept any more. */
  final boolean putBack(Block block) {
    lock.lock();
    try {
      if (ended) {
        return false;
      }
      table.enter(block);
      cache(block);
      return true;
    } finally {
      lock.unlock();
    }
  }

  /** The device is closed and idle: keeps nothing from now on. Takes out all that it has. */
  final List<Block> end() {
    lock.lock();
    try {
      ended = true;
    } finally {
      lock.unlock();
    }
    List<Block> out = new ArrayList<>(reclaim());
    lock.lock();
    try {
      for (BlockList list : lists) {
        Block block = list.oldest();
        while (block != null) {
          list.remove(block);
          takeAway(block);
          out.add(block);
          block = list.oldest();
        }
      }
    } finally {
      lock.unlock();
    }
    return out;
  }

  /** The tenancies that are open now. */
  final List<Tenancy> open() {
    List<Tenancy> open = new ArrayList<>();
    lock.lock();
    try {
      tenancies.forEach(open::add);
    } finally {
      lock.unlock();
    }
    return open;
  }

  /** Every block, as it is now. */
  final void describe(List<BlockInfo> into) {
    lock.lock();
    try {
      table.forEach(block -> into.add(describe(block)));
    } finally {
      lock.unlock();
    }
  }

  private BlockInfo describe(Block block) {
    return new BlockInfo(
        block.id,
        BlockInfo.State.valueOf(table.state(block).name()),
        block.size,
        table.requested(block),
        stream.index(),
        block.uses.outstanding(),
        Math.max(0, allocator.clock() - table.stamp(block)));
  }

  final DeviceStream stream() {
    return stream;
  }
}
