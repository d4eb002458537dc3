package dev.metalstreams;

import java.util.Arrays;

/**
 * Which work may still touch a block of memory: per stream, the last timeline value that uses it.
 *
 * <p>Invariant: a use is noted before the command buffer that contains it can be committed, and
 * under the lock of its stream; so for each stream the noted value only grows. Nearly all memory is
 * used by the stream it was allocated on alone: that value is one field. Uses by other streams are
 * kept in a small array behind the object's monitor.
 *
 * <p>Whether memory is free is a question at the time of the <em>close</em>. A stream that was
 * {@linkplain #record recorded} counts with all work queued on it then, seen by this library or
 * not.
 */
final class Uses {
  private static final DeviceStream[] NO_STREAMS = {};
  private static final long[] NO_VALUES = {};

  private final DeviceStream owner;
  private volatile long ownerValue;

  private DeviceStream[] others = NO_STREAMS;
  private long[] values = NO_VALUES;
  private boolean[] recorded = {};
  private boolean ownerRecorded;

  Uses(DeviceStream owner) {
    this.owner = owner;
  }

  DeviceStream owner() {
    return owner;
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
    if (stream == owner) {
      ownerRecorded = true;
    } else {
      recorded[slot(stream)] = true;
    }
  }

  /** The close: recorded streams count with what is queued on them now. */
  synchronized void close() {
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

  /** Whether all of it is done. Never blocks. */
  boolean passed() {
    if (!owner.timeline().reached(ownerValue)) {
      return false;
    }
    synchronized (this) {
      for (int i = 0; i < others.length; i++) {
        if (!others[i].timeline().reached(values[i])) {
          return false;
        }
      }
    }
    return true;
  }

  /** Submits and waits for all of it, whether it succeeds or not. Holds no lock while it waits. */
  void awaitReached() {
    owner.awaitReached(ownerValue, -1);
    Others uses = others();
    for (int i = 0; i < uses.values.length; i++) {
      uses.streams[i].awaitReached(uses.values[i], -1);
    }
  }

  /**
   * Submits and waits for all of it; throws the failure of work that failed. Holds no lock while it
   * waits.
   */
  void await() {
    awaitReached();
    owner.timeline().throwIfFailed(ownerValue);
    Others uses = others();
    for (int i = 0; i < uses.values.length; i++) {
      uses.streams[i].timeline().throwIfFailed(uses.values[i]);
    }
  }

  private static final class Others {
    final DeviceStream[] streams;
    final long[] values;

    Others(DeviceStream[] streams, long[] values) {
      this.streams = streams;
      this.values = values;
    }
  }

  private synchronized Others others() {
    return new Others(others, values.clone());
  }
}
