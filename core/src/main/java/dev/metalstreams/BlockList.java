package dev.metalstreams;

import org.jspecify.annotations.Nullable;

/**
 * Blocks of one {@link BlockTable} in the order in which they came, oldest first. Not thread-safe:
 * guarded by the lock of the cache it belongs to.
 *
 * <p>Invariant: a block is in one list of its table at most, and knows which ({@link Block#list}).
 */
final class BlockList {
  private final BlockTable table;

  /** Tells it from the other lists of its table; not 0. */
  private final int id;

  private int first = BlockTable.NONE;
  private int last = BlockTable.NONE;

  BlockList(BlockTable table) {
    this.table = table;
    this.id = table.addList();
  }

  BlockTable table() {
    return table;
  }

  @Nullable Block oldest() {
    return table.at(first);
  }

  @Nullable Block newest() {
    return table.at(last);
  }

  /** The one that came after a block of this list. */
  @Nullable Block after(Block block) {
    return table.at(block.next);
  }

  /** Whether a block, seen here or elsewhere some time ago, is in this list now. */
  boolean has(Block block) {
    return table.has(block) && block.list == id;
  }

  void add(Block block) {
    if (block.list != 0) {
      throw new IllegalStateException(block + " is in a list already");
    }
    block.list = id;
    Block before = newest();
    block.previous = last;
    block.next = BlockTable.NONE;
    if (before == null) {
      first = block.number;
    } else {
      before.next = block.number;
    }
    last = block.number;
  }

  void remove(Block block) {
    if (!has(block)) {
      throw new IllegalStateException(block + " is not in this list");
    }
    block.list = 0;
    Block before = table.at(block.previous);
    Block after = table.at(block.next);
    if (before == null) {
      first = block.next;
    } else {
      before.next = block.next;
    }
    if (after == null) {
      last = block.previous;
    } else {
      after.previous = block.previous;
    }
  }
}
