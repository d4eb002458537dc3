package dev.metalstreams;

import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * The open tenancies of one {@link StreamCache}: what keeps that of a dropped buffer alive until it
 * comes out of the leak queue.
 *
 * <p>A place of its own for each block would be an old object by the time that its tenancies, which
 * are new, are stored there, and that costs a memory barrier and a mark in the garbage collector's
 * card table, where streams get into each other's way (see {@link BlockTable}). So tenancies stand
 * in short arrays that are filled once, and are new themselves; an old object is written once for
 * {@value #PLACES} tenancies.
 *
 * <p>Not thread-safe: guarded by the lock of the cache it belongs to.
 *
 * <p>Invariant: an open tenancy is at its place of its chunk, and a chunk is in the chain, from the
 * newest to the oldest, if it has an open tenancy or free places. Places are never used again.
 */
final class Tenancies {
  private static final int PLACES = 64;

  static final class Chunk {
    private final @Nullable Tenancy[] places = new Tenancy[PLACES];
    private int used;
    private int open;
    private @Nullable Chunk older;
    private @Nullable Chunk newer;

    /** Whether it is linked to no other. */
    boolean alone() {
      return older == null && newer == null;
    }
  }

  private Chunk newest = new Chunk();

  void add(Tenancy tenancy) {
    Chunk chunk = newest.used < PLACES ? newest : next();
    tenancy.chunk = chunk;
    tenancy.place = chunk.used;
    chunk.places[chunk.used++] = tenancy;
    chunk.open++;
  }

  private Chunk next() {
    Chunk full = newest;
    Chunk chunk = new Chunk();
    full.newer = chunk;
    chunk.older = full;
    newest = chunk;
    if (full.open == 0) {
      unlink(full);
    }
    return chunk;
  }

  /** An open one is closed. */
  void remove(Tenancy tenancy) {
    Chunk chunk = tenancy.chunk;
    if (chunk == null) {
      throw new IllegalStateException("not an open tenancy");
    }
    chunk.places[tenancy.place] = null;
    tenancy.chunk = null; // whoever keeps a closed buffer keeps no others' alive
    chunk.open--;
    if (chunk.open == 0 && chunk != newest) {
      unlink(chunk);
    }
  }

  /**
   * Its links go, too: a dead chunk that the collector still counts as old would keep all later.
   */
  private static void unlink(Chunk chunk) {
    Chunk older = chunk.older;
    Chunk newer = chunk.newer;
    if (older != null) {
      older.newer = newer;
    }
    if (newer != null) {
      newer.older = older;
    }
    chunk.older = null;
    chunk.newer = null;
  }

  void forEach(Consumer<Tenancy> action) {
    for (Chunk chunk = newest; chunk != null; chunk = chunk.older) {
      for (int i = 0; i < chunk.used; i++) {
        Tenancy tenancy = chunk.places[i];
        if (tenancy != null) {
          action.accept(tenancy);
        }
      }
    }
  }
}
