package dev.metalstreams;

import dev.metalstreams.MemoryEvent.Kind;
import java.util.ArrayList;
import java.util.List;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/**
 * Tells what happens to memory: to Flight Recorder, and to a bounded history if one is kept.
 * Without either it costs a check.
 */
class MemoryLog {
  private final int capacity;
  private final MemoryEvent[] ring;
  private long count;

  MemoryLog(int capacity) {
    this.capacity = capacity;
    this.ring = new MemoryEvent[capacity];
  }

  /** Something happened to a block. */
  final void tell(Kind kind, long block, long bytes, int stream) {
    if (capacity > 0) {
      keep(new MemoryEvent(System.nanoTime(), kind, block, bytes, stream));
    }
    switch (kind) {
      case ALLOCATE -> commit(new Allocate(), block, bytes, stream);
      case FREE_REQUESTED -> commit(new FreeRequested(), block, bytes, stream);
      case FREE_COMPLETED -> commit(new FreeCompleted(), block, bytes, stream);
      case TRIM -> commit(new Trim(), block, bytes, stream);
      case OUT_OF_MEMORY -> commit(new OutOfMemory(), block, bytes, stream);
      case DEVICE_ALLOCATE, DEVICE_FREE, STEAL -> {
        // In the history only: Flight Recorder has the events that cause them.
      }
    }
  }

  private synchronized void keep(MemoryEvent event) {
    ring[(int) (count++ % capacity)] = event;
  }

  /** The last events, oldest first. */
  final synchronized List<MemoryEvent> history() {
    List<MemoryEvent> events = new ArrayList<>();
    for (long i = Math.max(0, count - capacity); i < count; i++) {
      events.add(ring[(int) (i % capacity)]);
    }
    return events;
  }

  private static void commit(BlockEvent event, long block, long bytes, int stream) {
    if (event.shouldCommit()) {
      event.block = block;
      event.bytes = bytes;
      event.stream = stream;
      event.commit();
    }
  }

  /** What all these events tell. */
  @Category("Metal Streams")
  @StackTrace(false)
  abstract static class BlockEvent extends Event {
    @Label("Block")
    @Description("Id of the block, never reused; 0 if none is meant")
    long block;

    @Label("Bytes")
    @DataAmount
    long bytes;

    @Label("Stream")
    @Description("Index of the stream that owns the block; -1 if none")
    int stream;
  }

  @Name("dev.metalstreams.MemoryAllocate")
  @Label("Memory Allocate")
  static final class Allocate extends BlockEvent {}

  @Name("dev.metalstreams.MemoryFreeRequested")
  @Label("Memory Free Requested")
  static final class FreeRequested extends BlockEvent {}

  @Name("dev.metalstreams.MemoryFreeCompleted")
  @Label("Memory Free Completed")
  static final class FreeCompleted extends BlockEvent {}

  @Name("dev.metalstreams.MemoryTrim")
  @Label("Memory Trim")
  static final class Trim extends BlockEvent {}

  @Name("dev.metalstreams.MemoryOutOfMemory")
  @Label("Memory Out Of Memory")
  static final class OutOfMemory extends BlockEvent {}
}
