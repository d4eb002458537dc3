package dev.metalstreams;

import java.util.Arrays;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * The blocks that a {@link StreamCache} answers for, by number, and who has those that are in use.
 *
 * <p>{@link BlockList}s link blocks by their numbers here, not by references: to store a reference
 * in an object that has lived for a while costs a memory barrier and a write to the garbage
 * collector's card table, whose bytes lie so close together that threads would slow each other
 * down, each with its own stream. Linked by references, an allocation and its close need seven of
 * them; this way the tenant's is the only one.
 *
 * <p>Not thread-safe: guarded by the lock of the cache it belongs to.
 *
 * <p>Invariant: a block is in one table at most, at {@link Block#number}. Only a holder of a
 * table's lock makes a block enter it or leave, so such a holder can tell whether a block that it
 * has seen elsewhere is here now; if so, its number, links and state are the holder's too.
 */
final class BlockTable {
  static final int NONE = -1;

  private @Nullable Block[] blocks = {};
  private @Nullable Tenancy[] tenants = {};

  /** Numbers that were given and are free again. */
  private int[] spare = {};

  private int spares;

  /** Numbers from here on were never given. */
  private int end;

  private int lists;

  /** A new list's id: not 0, and no other list's of this table. */
  int addList() {
    return ++lists;
  }

  boolean has(Block block) {
    int number = block.number;
    return number >= 0 && number < end && blocks[number] == block;
  }

  @Nullable Block at(int number) {
    return number == NONE ? null : blocks[number];
  }

  /** A block that is in no table comes into this one. */
  void enter(Block block) {
    if (block.number != NONE) {
      throw new IllegalStateException(block + " is in a table already");
    }
    if (spares == 0 && end == blocks.length) {
      int more = Math.max(16, 2 * end);
      blocks = Arrays.copyOf(blocks, more);
      tenants = Arrays.copyOf(tenants, more);
      spare = Arrays.copyOf(spare, more);
    }
    int number = spares == 0 ? end++ : spare[--spares];
    blocks[number] = block;
    block.number = number;
  }

  /** A block that is in no list goes elsewhere. */
  void leave(Block block) {
    blocks[block.number] = null;
    spare[spares++] = block.number;
    block.number = NONE;
  }

  /** Who has a block of this table; null if nobody has it any more. */
  void tenant(Block block, @Nullable Tenancy tenant) {
    tenants[block.number] = tenant;
  }

  void forEachTenant(Consumer<Tenancy> action) {
    for (int i = 0; i < end; i++) {
      Tenancy tenant = tenants[i];
      if (tenant != null) {
        action.accept(tenant);
      }
    }
  }

  void forEach(Consumer<Block> action) {
    for (int i = 0; i < end; i++) {
      Block block = blocks[i];
      if (block != null) {
        action.accept(block);
      }
    }
  }
}
