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
 * its owner, or in the hands of the one thread that took it out; state and links change under that
 * cache's lock.
 */
final class Block {

  enum State {
    IN_USE,
    PENDING,
    CACHED,
    /** In the hands of one thread. */
    TAKEN
  }

  /** Never reused within a device. */
  final long id;

  final long handle;
  final long size;
  final int sizeClass;
  final Uses uses;

  // Below: under the lock of the owner's cache.
  State state = State.TAKEN;
  long requested;
  long stamp; // coarse time of the last change of state, nanoseconds

  // And under that of its table: its number there; the list it is in, 0 if in none; its neighbours.
  int number = BlockTable.NONE;
  int list;
  int previous;
  int next;

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
