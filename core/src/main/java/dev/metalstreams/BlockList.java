package dev.metalstreams;

import org.jspecify.annotations.Nullable;

/**
 * A list of blocks by their own links, oldest first. Not thread-safe: guarded by the lock of the
 * cache it belongs to.
 *
 * <p>Invariant: a block is in one list at most, and knows which ({@link Block#list}). Only a holder
 * of a list's lock makes a block refer to that list or no longer, so such a holder can tell whether
 * a block that it has seen elsewhere is in this list now.
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
    if (block.list != null) {
      throw new IllegalStateException(block + " is in a list already");
    }
    block.list = this;
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
    if (block.list != this) {
      throw new IllegalStateException(block + " is not in this list");
    }
    block.list = null;
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
