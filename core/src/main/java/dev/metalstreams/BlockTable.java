package dev.metalstreams;

import java.util.Arrays;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * The blocks that a {@link StreamCache} answers for, by number: their state, and the {@link
 * BlockList} that each is in.
 *
 * <p>All that changes with an allocation stands in rows of numbers, not in the blocks. To store a
 * reference in an object that has lived for a while costs a memory barrier and a write to the
 * garbage collector's card table, whose bytes lie so close together that threads would slow each
 * other down, each with its own stream; and so would fields that happen to stand side by side (see
 * {@link Padding}). Linked by references, an allocation and its close need six such stores.
 *
 * <p>Not thread-safe: guarded by the lock of the cache it belongs to.
 *
 * <p>Invariant: a block is in one table at most, at {@link Block#number}. Only a holder of a
 * table's lock makes a block enter it or leave, so such a holder can tell whether a block that it
 * has seen elsewhere is here now; if so, its number and its row are the holder's too.
 */
final class BlockTable {
  /** No block's number. */
  static final int NONE = 0;

  // A row. Those of lists have links alone: to their first and last block, or to themselves.
  private static final int LIST = 0;
  private static final int PREVIOUS = 1;
  private static final int NEXT = 2;
  private static final int STATE = 3;
  private static final int REQUESTED = 4;
  private static final int STAMP = 5;
  private static final int WIDTH = 8; // a power of two

  private static final int FIRST_CAPACITY = 16;

  private long[] rows = new long[at(FIRST_CAPACITY, Padding.LONGS)];
  private @Nullable Block[] blocks = new Block[FIRST_CAPACITY];

  /** Numbers that were given and are free again. */
  private int[] spare = new int[FIRST_CAPACITY];

  private int spares;

  /** Numbers from here on were never given. */
  private int end = NONE + 1;

  private static int at(int number, int column) {
    return Padding.LONGS + number * WIDTH + column;
  }

  private int give() {
    if (spares > 0) {
      return spare[--spares];
    }
    if (end == blocks.length) {
      int more = 2 * end;
      rows = Arrays.copyOf(rows, at(more, Padding.LONGS));
      blocks = Arrays.copyOf(blocks, more);
      spare = Arrays.copyOf(spare, more);
    }
    return end++;
  }

  // ---- blocks

  boolean has(Block block) {
    int number = block.number;
    return number < end && blocks[number] == block;
  }

  /** A block that is in no table comes into this one. */
  void enter(Block block) {
    if (block.number != NONE) {
      throw new IllegalStateException(block + " is in a table already");
    }
    int number = give();
    blocks[number] = block;
    block.number = number;
  }

  /** A block that is in no list goes elsewhere. */
  void leave(Block block) {
    blocks[block.number] = null;
    spare[spares++] = block.number;
    block.number = NONE;
  }

  Block.State state(Block block) {
    return Block.State.of(rows[at(block.number, STATE)]);
  }

  /** Bytes that were asked for; 0 if nobody has the block. */
  long requested(Block block) {
    return rows[at(block.number, REQUESTED)];
  }

  /** Coarse time of the last change of state, nanoseconds. */
  long stamp(Block block) {
    return rows[at(block.number, STAMP)];
  }

  void state(Block block, Block.State state, long stamp) {
    rows[at(block.number, STATE)] = state.number;
    rows[at(block.number, STAMP)] = stamp;
  }

  void requested(Block block, long bytes) {
    rows[at(block.number, REQUESTED)] = bytes;
  }

  void forEach(Consumer<Block> action) {
    for (int number = 0; number < end; number++) {
      Block block = blocks[number];
      if (block != null) {
        action.accept(block);
      }
    }
  }

  // ---- lists: rings of rows, closed by the list's own, which has no block

  /** The number of a new list, and of its row. */
  int addList() {
    int list = give();
    rows[at(list, PREVIOUS)] = list;
    rows[at(list, NEXT)] = list;
    return list;
  }

  /** The list that a block of this table is in; {@link #NONE} if in none. */
  int list(Block block) {
    return (int) rows[at(block.number, LIST)];
  }

  /** The block after a block or, for a list, its first; null at the end. */
  @Nullable Block after(int number) {
    return blocks[(int) rows[at(number, NEXT)]];
  }

  /** The last block of a list; null if it is empty. */
  @Nullable Block last(int list) {
    return blocks[(int) rows[at(list, PREVIOUS)]];
  }

  /** A block that is in no list goes to the end of one. */
  void append(int list, Block block) {
    int number = block.number;
    long last = rows[at(list, PREVIOUS)];
    rows[at(number, LIST)] = list;
    rows[at(number, PREVIOUS)] = last;
    rows[at(number, NEXT)] = list;
    rows[at((int) last, NEXT)] = number;
    rows[at(list, PREVIOUS)] = number;
  }

  /** A block goes out of its list. */
  void unlink(Block block) {
    int number = block.number;
    long previous = rows[at(number, PREVIOUS)];
    long next = rows[at(number, NEXT)];
    rows[at(number, LIST)] = NONE;
    rows[at((int) previous, NEXT)] = next;
    rows[at((int) next, PREVIOUS)] = previous;
  }
}
