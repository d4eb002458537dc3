package dev.metalstreams;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Something that touches memory: work on its way into a stream, or a view of the host.
 *
 * <p>Made by the thread that encodes, before it has the stream's lock; claimed and settled under
 * it. From the claim on other threads read it, under the monitor of memory that it touches.
 */
final class Operation {
  final Hazards hazards;
  final String name;

  /** Null for the host. */
  @Nullable DeviceStream stream;

  /** Of the timeline, for messages and waits. */
  long value;

  /** For the host: after nothing. */
  Stamp stamp = Hazards.HOST;

  /** What the host knew when it was claimed. */
  Clock host = Clock.ZERO;

  /** Whether the host waits for what is settled before it looks. */
  boolean waits;

  /** Where it was called, if that was looked up. */
  StackWalker.@Nullable StackFrame site;

  private final Access[] accesses;
  private int count;
  private int claimed;

  Operation(Hazards hazards, String name, int accesses) {
    this.hazards = hazards;
    this.name = name;
    this.accesses = new Access[accesses];
  }

  Operation reads(DeviceBuffer buffer, long from, long length) {
    return touches(buffer, false, from, length);
  }

  Operation writes(DeviceBuffer buffer, long from, long length) {
    return touches(buffer, true, from, length);
  }

  Operation reads(Tensor tensor) {
    return reads(tensor.buffer(), 0, tensor.buffer().byteSize());
  }

  Operation writes(Tensor tensor) {
    return writes(tensor.buffer(), 0, tensor.buffer().byteSize());
  }

  Operation reads(List<Tensor> tensors) {
    for (int i = 0; i < tensors.size(); i++) {
      reads(tensors.get(i));
    }
    return this;
  }

  Operation writes(List<Tensor> tensors) {
    for (int i = 0; i < tensors.size(); i++) {
      writes(tensors.get(i));
    }
    return this;
  }

  private Operation touches(DeviceBuffer buffer, boolean writes, long from, long length) {
    Accesses memory = buffer.accesses();
    if (memory != null) { // else it is of a device without a detector, and refused
      accesses[count++] = new Access(this, memory, writes, from, from + length);
    }
    return this;
  }

  /**
   * Claims all of its memory for a stream, whose lock is held.
   *
   * @param at the value that it will have
   * @param now the stream's stamp
   * @return null, or an event that the stream has to wait for first; then nothing is claimed
   * @throws StreamRaceException if it races and that is to be thrown; then nothing is claimed
   */
  @Nullable DeviceEvent claim(DeviceStream on, long at, Stamp now) {
    stream = on;
    value = at;
    stamp = new Stamp(on.index(), now.position() + 1, now.clock());
    DeviceEvent missing = null;
    boolean all = false;
    try {
      while (claimed < count && missing == null) {
        missing = claim(accesses[claimed]);
        claimed += missing == null ? 1 : 0;
      }
      all = missing == null;
    } finally {
      if (!all) {
        retract();
      }
    }
    return missing;
  }

  /** Claims its memory for a view of the host. */
  void open() {
    DeviceEvent missing = claim(accesses[0]);
    while (missing != null) {
      missing.stream().pass(); // what is only claimed yet will be settled, and is waited for
      missing = claim(accesses[0]);
    }
    claimed = count;
  }

  private @Nullable DeviceEvent claim(Access mine) {
    host = hazards.host();
    Access earlier = mine.memory.claim(mine, false);
    if (earlier == null) {
      return null;
    }
    DeviceStream other = earlier.by.stream;
    if (other != null && hazards.orders()) {
      return new DeviceEvent(other, earlier.by.value, earlier.by.stamp);
    }
    hazards.race(earlier, mine);
    mine.memory.claim(mine, true);
    return null;
  }

  /** It is encoded; returns the stamp that its stream has from now on. */
  Stamp settle() {
    claimed = 0;
    return stamp;
  }

  /** It is submitted: what its claims replaced will not come back. */
  void keep() {
    for (int i = 0; i < count; i++) {
      accesses[i].replaced = null;
    }
  }

  /** It was settled, and cancelled. Of several, the last one first. */
  void cancel() {
    claimed = count;
    retract();
  }

  /** Whether it is encoded. The memory's uses have it then. */
  boolean isSettled() {
    return stream != null && stamp.position() <= stream.position();
  }

  /** It will not be encoded after all, or the view is closed. Does nothing once it is settled. */
  void retract() {
    while (claimed > 0) {
      claimed--;
      accesses[claimed].memory.remove(accesses[claimed]);
    }
  }
}
