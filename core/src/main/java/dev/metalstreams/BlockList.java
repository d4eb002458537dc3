package dev.metalstreams;

import org.jspecify.annotations.Nullable;

/**
 * Blocks of one {@link BlockTable} in the order in which they came, oldest first. Not thread-safe:
 * guarded by the lock of the cache it belongs to.
 *
 * <p>Invariant: a block is in one list of its table at most, and its row says in which.
 */
final class BlockList {
  private final BlockTable table;
  private final int number;

  BlockList(BlockTable table) {
    this.table = table;
    this.number = table.addList();
  }

  BlockTable table() {
    return table;
  }

  @Nullable Block oldest() {
    return table.after(number);
  }

  @Nullable Block newest() {
    return table.last(number);
  }

  /** The one that came after a block of this list. */
  @Nullable Block after(Block block) {
    return table.after(block.number);
  }

  /** Whether a block, seen here or elsewhere some time ago, is in this list now. */
  boolean has(Block block) {
    return table.has(block) && table.list(block) == number;
  }

  void add(Block block) {
    if (table.list(block) != BlockTable.NONE) {
      throw new IllegalStateException(block + " is in a list already");
    }
    table.append(number, block);
  }

  void remove(Block block) {
    if (!has(block)) {
      throw new IllegalStateException(block + " is not in this list");
    }
    table.unlink(block);
  }
}
