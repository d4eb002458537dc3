package dev.metalstreams;

import org.jspecify.annotations.Nullable;

/**
 * A list of blocks by their own links, oldest first. A block is in one list at most. Not
 * thread-safe: guarded by the monitor of the cache it belongs to.
 */
final class BlockList {
  private @Nullable Block first;
  private @Nullable Block last;

  boolean isEmpty() {
    return first == null;
  }

  @Nullable Block oldest() {
    return first;
  }

  @Nullable Block newest() {
    return last;
  }

  void add(Block block) {
    Block before = last;
    block.previous = before;
    block.next = null;
    if (before == null) {
      first = block;
    } else {
      before.next = block;
    }
    last = block;
  }

  void remove(Block block) {
    Block before = block.previous;
    Block after = block.next;
    if (before == null) {
      first = after;
    } else {
      before.next = after;
    }
    if (after == null) {
      last = before;
    } else {
      after.previous = before;
    }
    block.previous = null;
    block.next = null;
  }
}
