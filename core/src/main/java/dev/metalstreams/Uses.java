package dev.metalstreams;

import java.util.Arrays;

/**
 * Which work may still touch a block of memory: per stream, the last timeline value that uses it.
 *
 * <p>Invariant: a use is noted before the command buffer that contains it can be committed, and
 * under the lock of its stream; so for each stream the noted value only grows. Nearly all memory is
 * used by the stream that owns it alone: that value is one field, and it stays with the block when
 * the block is recycled, so that the next tenant's CPU access waits for the last tenant's work.
 * Uses by other streams are kept in a small array behind the object's monitor; a block is not
 * recycled before they have passed.
 *
 * <p>Whether memory is free is a question at the time of the <em>close</em>. A stream that was
 * {@linkplain #record recorded} counts with all work queued on it then, seen by this library or
 * not.
 */
final class Uses {
  private static final DeviceStream[] NO_STREAMS = {};
  private static final long[] NO_VALUES = {};
  private static final boolean[] NO_MARKS = {};

  private volatile DeviceStream owner;
  private volatile long ownerValue;

  /** {@code ownerValue} when the present tenant got the block: work of tenants before it. */
  private long inherited;

  /**
   * Whether anything but {@code ownerValue} is to be looked at. Set once per tenancy, under the
   * monitor.
   */
  private volatile boolean shared;

  private DeviceStream[] others = NO_STREAMS;
  private long[] values = NO_VALUES;
  private boolean[] recorded = NO_MARKS;
  private boolean ownerRecorded;

  Uses(DeviceStream owner) {
    this.owner = owner;
  }

  DeviceStream owner() {
    return owner;
  }

  /** A new tenant gets the block. Before its buffer is made, whose final fields publish this. */
  void begin() {
    inherited = ownerValue;
  }

  /** Up to which value of the owner the work of tenants before this one goes. */
  long inherited() {
    return inherited;
  }

  /** Work at {@code value} of {@code stream}, whose lock the caller holds, touches the memory. */
  void add(DeviceStream stream, long value) {
    if (stream == owner) {
      ownerValue = value;
    } else {
      addOther(stream, value);
    }
  }

  private synchronized void addOther(DeviceStream stream, long value) {
    int slot = slot(stream);
    values[slot] = Math.max(values[slot], value);
  }

  /** All work queued on this stream up to the close may touch the memory. */
  synchronized void record(DeviceStream stream) {
    shared = true;
    if (stream == owner) {
      ownerRecorded = true;
    } else {
      int slot = slot(stream); // first: it may replace the array
      recorded[slot] = true;
    }
  }

  /** The close: recorded streams count with what is queued on them now. */
  void close() {
    if (shared) {
      fence();
    }
  }

  private synchronized void fence() {
    if (ownerRecorded) {
      ownerValue = Math.max(ownerValue, owner.queued());
    }
    for (int i = 0; i < others.length; i++) {
      if (recorded[i]) {
        values[i] = Math.max(values[i], others[i].queued());
      }
    }
  }

  private int slot(DeviceStream stream) {
    shared = true;
    for (int i = 0; i < others.length; i++) {
      if (others[i] == stream) {
        return i;
      }
    }
    int slot = others.length;
    others = Arrays.copyOf(others, slot + 1);
    values = Arrays.copyOf(values, slot + 1);
    recorded = Arrays.copyOf(recorded, slot + 1);
    others[slot] = stream;
    return slot;
  }

  /** Whether the uses by other streams than the owner are done. Never blocks, makes no downcall. */
  boolean othersPassed() {
    return !shared || sharedPassed();
  }

  private synchronized boolean sharedPassed() {
    for (int i = 0; i < others.length; i++) {
      if (others[i].timeline().completed() < values[i]) {
        return false;
      }
    }
    return true;
  }

  /** Whether the owner's uses are done. Never blocks, makes no downcall. */
  boolean ownerPassed() {
    return owner.timeline().completed() >= ownerValue;
  }

  /** Whether all of it is done. Never blocks, makes no downcall. */
  boolean passed() {
    return ownerPassed() && othersPassed();
  }

  /** The uses by other streams have passed: the block is the owner's alone again. */
  void forgetOthers() {
    if (shared) {
      clear();
    }
  }

  private synchronized void clear() {
    others = NO_STREAMS;
    values = NO_VALUES;
    recorded = NO_MARKS;
    ownerRecorded = false;
    shared = false;
  }

  /**
   * Gives a block that only its owner still uses, and that the caller has in its hands, to another
   * stream, whose work from {@code value} on comes after that of the old owner.
   */
  void moveTo(DeviceStream stream, long value) {
    owner = stream;
    ownerValue = value;
  }

  /** The last value of the owner that uses the memory. */
  long ownerValue() {
    return ownerValue;
  }

  /** How many streams have work left on the memory. */
  synchronized int outstanding() {
    int count = ownerPassed() ? 0 : 1;
    for (int i = 0; i < others.length; i++) {
      count += others[i].timeline().completed() < values[i] ? 1 : 0;
    }
    return count;
  }

  /** Submits and waits for all of it, whether it succeeds or not. Holds no lock while it waits. */
  void awaitReached() {
    owner.awaitReached(ownerValue, -1);
    if (shared) {
      Others uses = others();
      for (int i = 0; i < uses.values.length; i++) {
        uses.streams[i].awaitReached(uses.values[i], -1);
      }
    }
  }

  /**
   * Submits and waits for all of it; throws the failure of work that failed, unless it was an
   * earlier tenant's. Holds no lock while it waits.
   */
  void await() {
    awaitReached();
    if (ownerValue > inherited) {
      owner.timeline().throwIfFailed(ownerValue);
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

  private synchronized Others others() {
    return new Others(others, values.clone());
  }
}
