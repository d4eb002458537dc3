package dev.metalstreams;

/**
 * A native buffer, through all its tenancies. Its life:
 *
 * <pre>
 *            allocate                     close (no use by other streams left)
 *   (driver) ────────► IN USE ───────────────────────────────► CACHED on its stream ──► IN USE …
 *                        │  close, used by other streams           │ trim / pressure / emptyCache
 *                        ▼                                         ▼
 *                     PENDING ── every other stream passed ──► CACHED            RELEASED to the driver
 * </pre>
 *
 * <p>A huge block, and every block while caching is off, is PENDING until all streams have passed,
 * and then goes to the driver. So does every block once the device is closed.
 *
 * <p>Invariant: a block is in the {@link BlockTable} of exactly one {@link StreamCache}, that of
 * its owner, or in the hands of the one thread that took it out; its row there changes under that
 * cache's lock.
 */
final class Block {

  enum State {
    IN_USE(1),
    PENDING(2),
    CACHED(3),
    /** In the hands of one thread; in no table. */
    TAKEN(0);

    /** How it stands in the table. */
    final int number;

    State(int number) {
      this.number = number;
    }

    static State of(long number) {
      return number == IN_USE.number ? IN_USE : number == PENDING.number ? PENDING : CACHED;
    }
  }

  /** Never reused within a device. */
  final long id;

  final long handle;
  final long size;
  final int sizeClass;
  final Uses uses;

  /** In its table, under the lock of the cache; written when it enters or leaves. */
  int number = BlockTable.NONE;

  Block(long id, long handle, long size, int sizeClass, DeviceStream owner) {
    this.id = id;
    this.handle = handle;
    this.size = size;
    this.sizeClass = sizeClass;
    this.uses = new Uses(owner);
  }

  /** 1 for small blocks, 2 for large ones: their place in the statistics beside 0, all. */
  int pool() {
    return pool(size);
  }

  static int pool(long size) {
    return size <= SizeClasses.SMALL ? Ledger.SMALL : Ledger.LARGE;
  }

  @Override
  public String toString() {
    return "block " + id + " of " + size + " bytes";
  }
}
