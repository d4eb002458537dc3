package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.Arguments;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Argument slots as an array of C pointers, freed with this object. */
final class NativeArguments implements Arguments {
  private final MemorySegment slots;
  private final int capacity;

  NativeArguments(int capacity) {
    this.slots = Arena.ofAuto().allocate(mst_h.C_POINTER, capacity);
    this.capacity = capacity;
  }

  @Override
  public int capacity() {
    return capacity;
  }

  @Override
  public void set(int index, long buffer) {
    slots.setAtIndex(ValueLayout.JAVA_LONG, index, buffer);
  }

  MemorySegment slots() {
    return slots;
  }
}
