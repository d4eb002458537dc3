package dev.metalstreams;

import java.util.Arrays;

/**
 * Which work may still touch a block of memory: per stream, the last timeline value that uses it.
 *
 * <p>Invariant: a use is noted before the command buffer that contains it can be committed, and
 * under the lock of its stream; so for each stream the noted value only grows. Nearly all memory is
 * used by the stream that owns it alone: that value is one field, and it stays with the block when
 * the block is recycled, so that the next tenant's CPU access waits for the last tenant's work.
 * Uses by other streams are kept in a small array behind a lock; a block is not recycled before
 * they have passed. Owner and value change together under that lock when the block moves to another
 * stream, and who has no part in the block reads them under it.
 *
 * <p>Whether memory is free is a question at the time of the <em>close</em>. A stream that was
 * {@linkplain #record recorded} counts with all work queued on it then, seen by this library or
 * not.
 */
class Uses {
  private static final DeviceStream[] NO_STREAMS = {};
  private static final long[] NO_VALUES = {};
  private static final boolean[] NO_MARKS = {};

  private volatile DeviceStream owner;
  private volatile long ownerValue;

  /** {@code ownerValue} when the present tenant got the block: work of tenants before it. */
  private long inherited;

  /**
   * Whether the present tenant has used the block on its owner. The value cannot tell: the last
   * tenant's work may be in the command buffer that is still open. Published by {@code ownerValue}.
   */
  private boolean usedByOwner;

  /**
   * Whether anything but {@code ownerValue} is to be looked at. Written under the lock, and read
   * without it only by who is ordered after the use in question: by the {@link Lifetime} of the
   * tenancy after its close, by the user before.
   */
  private boolean shared;

  final BriefLock lock = new BriefLock();

  // Other streams: the first `count` of each array.
  private int count;
  private DeviceStream[] others = NO_STREAMS;
  private long[] values = NO_VALUES;
  private boolean[] recorded = NO_MARKS;
  private boolean ownerRecorded;

  Uses(DeviceStream owner) {
    this.owner = owner;
  }

  final DeviceStream owner() {
    return owner;
  }

  /** A new tenant gets the block. Before its buffer is made, whose final fields publish this. */
  final void begin() {
    long value = ownerValue;
    if (inherited != value) { // see Padding
      inherited = value;
    }
    if (usedByOwner) {
      usedByOwner = false;
    }
  }

  /** Up to which value of the owner the work of tenants before this one goes. */
  final long inherited() {
    return inherited;
  }

  /** Work at {@code value} of {@code stream}, whose lock the caller holds, touches the memory. */
  final void add(DeviceStream stream, long value) {
    if (stream == owner) {
      usedByOwner = true;
      ownerValue = value;
    } else {
      addOther(stream, value);
    }
  }

  private void addOther(DeviceStream stream, long value) {
    lock.lock();
    try {
      int slot = slot(stream);
      values[slot] = Math.max(values[slot], value);
    } finally {
      lock.unlock();
    }
  }

  /** All work queued on this stream up to the close may touch the memory. */
  final void record(DeviceStream stream) {
    lock.lock();
    try {
      if (stream == owner) {
        ownerRecorded = true;
        shared = true;
      } else {
        int slot = slot(stream); // first: it may replace the array
        recorded[slot] = true;
      }
    } finally {
      lock.unlock();
    }
  }

  /**
   * The close: recorded streams count with what is queued on them now. If all others have passed,
   * the block is the owner's alone from here on.
   */
  final void close() {
    if (shared) {
      fence();
    }
  }

  private void fence() {
    lock.lock();
    try {
      if (ownerRecorded) {
        ownerValue = Math.max(ownerValue, owner.queued());
      }
      for (int i = 0; i < count; i++) {
        if (recorded[i]) {
          values[i] = Math.max(values[i], others[i].queued());
        }
      }
      if (othersDone()) {
        clear();
      }
    } finally {
      lock.unlock();
    }
  }

  private int slot(DeviceStream stream) {
    shared = true;
    for (int i = 0; i < count; i++) {
      if (others[i] == stream) {
        return i;
      }
    }
    if (count == others.length) {
      int more = Math.max(2, 2 * count);
      others = Arrays.copyOf(others, more);
      values = Arrays.copyOf(values, more);
      recorded = Arrays.copyOf(recorded, more);
    }
    if (others[count] != stream) { // to store a reference costs more than to look
      others[count] = stream;
    }
    values[count] = 0;
    recorded[count] = false;
    return count++;
  }

  /** Whether the uses by other streams than the owner are done. Never blocks, makes no downcall. */
  final boolean othersPassed() {
    return !shared || sharedPassed();
  }

  private boolean sharedPassed() {
    lock.lock();
    try {
      return othersDone();
    } finally {
      lock.unlock();
    }
  }

  private boolean othersDone() {
    for (int i = 0; i < count; i++) {
      if (others[i].timeline().completed() < values[i]) {
        return false;
      }
    }
    return true;
  }

  /** Whether the owner's uses are done. Never blocks, makes no downcall. */
  final boolean ownerPassed() {
    return owner.timeline().completed() >= ownerValue;
  }

  /** Whether all of it is done. Never blocks, makes no downcall. */
  final boolean passed() {
    return ownerPassed() && othersPassed();
  }

  /** The uses by other streams have passed: the block is the owner's alone again. */
  final void forgetOthers() {
    if (shared) {
      forget();
    }
  }

  private void forget() {
    lock.lock();
    try {
      clear();
    } finally {
      lock.unlock();
    }
  }

  /** Streams that are no longer looked at stay in the array: they live as long as the device. */
  private void clear() {
    count = 0;
    ownerRecorded = false;
    shared = false;
  }

  /**
   * Gives a block that only its owner still uses, and that the caller has in its hands, to another
   * stream, whose work from {@code value} on comes after that of the old owner.
   */
  void moveTo(DeviceStream stream, long value) {
    lock.lock();
    try {
      setOwner(stream, value);
    } finally {
      lock.unlock();
    }
  }

  /** Under the lock, so that nobody takes the one's value for the other's: see awaitOwner. */
  final void setOwner(DeviceStream stream, long value) {
    owner = stream;
    ownerValue = value;
  }

  /** The last value of the owner that uses the memory. */
  final long ownerValue() {
    return ownerValue;
  }

  /** How many streams have work left on the memory. */
  final int outstanding() {
    lock.lock();
    try {
      int outstanding = ownerPassed() ? 0 : 1;
      for (int i = 0; i < count; i++) {
        outstanding += others[i].timeline().completed() < values[i] ? 1 : 0;
      }
      return outstanding;
    } finally {
      lock.unlock();
    }
  }

  /** Submits and waits for all of it, whether it succeeds or not. Holds no lock while it waits. */
  final void awaitReached() {
    awaitOwner();
    if (shared) {
      Others uses = others();
      for (int i = 0; i < uses.values.length; i++) {
        uses.streams[i].awaitReached(uses.values[i], -1);
      }
    }
  }

  /** The block may be on its way to another owner, if the caller has no part in it. */
  private void awaitOwner() {
    DeviceStream stream;
    long value;
    lock.lock();
    try {
      stream = owner;
      value = ownerValue;
    } finally {
      lock.unlock();
    }
    stream.awaitReached(value, -1);
  }

  /**
   * Submits and waits for all of it; throws the failure of work that failed, unless it was an
   * earlier tenant's. Holds no lock while it waits.
   */
  final void await() {
    awaitReached();
    long value = ownerValue; // first: it publishes the mark
    if (usedByOwner) {
      owner.timeline().throwIfFailed(value);
    }
    if (shared) {
      Others uses = others();
      for (int i = 0; i < uses.values.length; i++) {
        uses.streams[i].timeline().throwIfFailed(uses.values[i]);
      }
    }
  }

  /** The uses by other streams at one moment. */
  private static final class Others {
    private final DeviceStream[] streams;
    private final long[] values;

    Others(DeviceStream[] streams, long[] values) {
      this.streams = streams;
      this.values = values;
    }
  }

  private Others others() {
    lock.lock();
    try {
      return new Others(Arrays.copyOf(others, count), Arrays.copyOf(values, count));
    } finally {
      lock.unlock();
    }
  }
}
