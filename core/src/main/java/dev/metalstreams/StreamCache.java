package dev.metalstreams;

import java.lang.ref.ReferenceQueue;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * The blocks of one stream: those in use, those that other streams still use, and those that are
 * free for the next allocation on this stream.
 *
 * <p>Allocating from a free list and closing back to it touch nothing but this object: its monitor
 * is the only lock, held for a few instructions, never across a downcall, a wait or another lock.
 *
 * <p>A free block may still be used by queued work of <em>this</em> stream: its next user on the
 * device runs after that work. So the newest free block is the best for the device (it is warm),
 * and the oldest the best for the CPU, which may not touch a block before that work is done.
 */
final class StreamCache {
  private static final int SAMPLE_MASK = 127;

  private final Device device;
  private final Allocator allocator;
  private final DeviceStream stream;
  private final Ledger.Page page;
  private final ReferenceQueue<DeviceBuffer> leaks;

  private final @Nullable BlockList[] free = new BlockList[SizeClasses.COUNT];
  private final BlockList inUse = new BlockList();
  private final BlockList pending = new BlockList();
  private int samples;

  /** Bytes in {@code pending}; read without the monitor to skip an empty list. */
  private volatile long pendingBytes;

  StreamCache(Device device, Allocator allocator, DeviceStream stream) {
    this.device = device;
    this.allocator = allocator;
    this.stream = stream;
    this.page = allocator.ledger().open(this);
    this.leaks = allocator.leaks();
  }

  // ---- the fast path

  /** Hands out a free block of a class, or null. For the CPU only a block that no work uses. */
  @Nullable DeviceBuffer take(int sizeClass, long bytes, boolean forHost) {
    DeviceBuffer buffer;
    boolean peak;
    synchronized (this) {
      BlockList list = free[sizeClass];
      Block block = list == null ? null : forHost ? list.oldest() : list.newest();
      if (block == null || list == null || (forHost && !block.uses.passed())) {
        return null;
      }
      list.remove(block);
      block.uses.begin();
      buffer = new DeviceBuffer(device, block, bytes, leaks, sampled());
      peak = lend(block, buffer);
    }
    if (peak) {
      allocator.ledger().cover(page);
    }
    return buffer;
  }

  /** Hands out a block that the caller has taken or made. */
  DeviceBuffer adopt(Block block, long bytes) {
    DeviceBuffer buffer;
    boolean peak;
    synchronized (this) {
      block.uses.begin();
      buffer = new DeviceBuffer(device, block, bytes, leaks, sampled());
      peak = lend(block, buffer);
    }
    if (peak) {
      allocator.ledger().cover(page);
    }
    return buffer;
  }

  private boolean lend(Block block, DeviceBuffer buffer) {
    Tenancy tenant = buffer.tenancy();
    if (allocator.leakLevel().recordsUse()) {
      tenant.lastUse = tenant.site;
    }
    block.state = Block.State.IN_USE;
    block.tenant = tenant;
    block.requested = buffer.byteSize();
    block.stamp = allocator.clock();
    inUse.add(block);
    return page.allocated(block.pool(), block.size, buffer.byteSize());
  }

  private @Nullable Throwable sampled() {
    LeakLevel level = allocator.leakLevel();
    if (level == LeakLevel.DISABLED
        || (level != LeakLevel.PARANOID && (++samples & SAMPLE_MASK) != 1)) {
      return null;
    }
    return new Throwable("allocated here");
  }

  /**
   * The user's side of a block has ended. Returns true if the caller has to give the block, now
   * {@code TAKEN}, to the driver.
   */
  boolean close(Block block, boolean keep) {
    synchronized (this) {
      inUse.remove(block);
      block.tenant = null;
      block.stamp = allocator.clock();
      page.closed(block.pool(), block.size, block.requested);
      block.requested = 0;
      if (keep ? allocator.reusable(block.uses) : allocator.unused(block.uses)) {
        page.idle(block.pool(), block.size);
        return settle(block, keep);
      }
      block.state = Block.State.PENDING;
      pending.add(block);
      pendingBytes += block.size;
      return false;
    }
  }

  /** No other stream uses the block: to its free list, or out. Under the monitor. */
  private boolean settle(Block block, boolean keep) {
    if (!keep) {
      block.state = Block.State.TAKEN;
      return true;
    }
    block.uses.forgetOthers();
    BlockList list = free[block.sizeClass];
    if (list == null) {
      list = new BlockList();
      free[block.sizeClass] = list;
    }
    block.state = Block.State.CACHED;
    list.add(block);
    return false;
  }

  // ---- off the fast path

  boolean hasPending() {
    return pendingBytes > 0;
  }

  long pendingBytes() {
    return pendingBytes;
  }

  /** Settles pending blocks whose work is done; returns those that go to the driver. */
  List<Block> reclaim() {
    if (pendingBytes == 0) {
      return List.of();
    }
    List<Block> out = new ArrayList<>();
    synchronized (this) {
      Block block = pending.oldest();
      while (block != null) {
        Block next = block.next;
        boolean keep = allocator.keeps(block);
        if (keep ? allocator.reusable(block.uses) : allocator.unused(block.uses)) {
          pending.remove(block);
          pendingBytes -= block.size;
          block.stamp = allocator.clock();
          page.idle(block.pool(), block.size);
          if (settle(block, keep)) {
            out.add(block);
          }
        }
        block = next;
      }
    }
    return out;
  }

  /** The oldest pending block's uses, to wait for. */
  @Nullable Uses oldestPending() {
    synchronized (this) {
      Block block = pending.oldest();
      return block == null ? null : block.uses;
    }
  }

  /** Takes out one free block of a class that matches, oldest first. */
  @Nullable Block steal(int sizeClass, Predicate<Block> which) {
    synchronized (this) {
      BlockList list = free[sizeClass];
      Block block = list == null ? null : list.oldest();
      while (block != null && list != null) {
        if (which.test(block)) {
          list.remove(block);
          block.state = Block.State.TAKEN;
          return block;
        }
        block = block.next;
      }
      return null;
    }
  }

  /** Takes out every free block that matches. */
  List<Block> drain(Predicate<Block> which) {
    List<Block> out = new ArrayList<>();
    synchronized (this) {
      for (BlockList list : free) {
        Block block = list == null ? null : list.oldest();
        while (block != null && list != null) {
          Block next = block.next;
          if (which.test(block)) {
            list.remove(block);
            block.state = Block.State.TAKEN;
            out.add(block);
          }
          block = next;
        }
      }
    }
    return out;
  }

  /** The free blocks that no work uses, left where they are. */
  void idle(List<Block> into) {
    synchronized (this) {
      for (BlockList list : free) {
        for (Block block = list == null ? null : list.oldest(); block != null; block = block.next) {
          if (block.uses.passed()) {
            into.add(block);
          }
        }
      }
    }
  }

  /** Takes out this block if it is still free and no work uses it. */
  boolean takeOut(Block block) {
    synchronized (this) {
      BlockList list = free[block.sizeClass];
      if (list == null
          || block.state != Block.State.CACHED
          || block.uses.owner() != stream
          || !block.uses.passed()) {
        return false;
      }
      list.remove(block);
      block.state = Block.State.TAKEN;
      return true;
    }
  }

  /** Puts an unused block that was taken out into its free list. */
  void putBack(Block block) {
    synchronized (this) {
      settle(block, true);
    }
  }

  /** The tenancies that are open now. */
  List<Tenancy> open() {
    List<Tenancy> open = new ArrayList<>();
    synchronized (this) {
      for (Block block = inUse.oldest(); block != null; block = block.next) {
        Tenancy tenant = block.tenant;
        if (tenant != null) {
          open.add(tenant);
        }
      }
    }
    return open;
  }

  /** Every block, as it is now. */
  void describe(List<BlockInfo> into) {
    synchronized (this) {
      describe(inUse, into);
      describe(pending, into);
      for (BlockList list : free) {
        if (list != null) {
          describe(list, into);
        }
      }
    }
  }

  private void describe(BlockList list, List<BlockInfo> into) {
    for (Block block = list.oldest(); block != null; block = block.next) {
      into.add(
          new BlockInfo(
              block.id,
              BlockInfo.State.valueOf(block.state.name()),
              block.size,
              block.requested,
              stream.index(),
              block.uses.outstanding(),
              Math.max(0, allocator.clock() - block.stamp)));
    }
  }

  DeviceStream stream() {
    return stream;
  }
}
