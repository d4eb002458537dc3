package dev.metalstreams.script;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Memory of the scripted device. Fresh memory and memory after its end have patterns of their own,
 * so that nobody gets away with reading either. Guarded by the driver's lock.
 */
final class ScriptedBuffer {
  private static final int ALIGNMENT = 64;

  /** What fresh memory holds: a float of about -4.3e8, in no result. */
  static final byte FRESH = (byte) 0xCD;

  /** What ended memory holds: a float of about -1.2e17. */
  static final byte ENDED = (byte) 0xDB;

  final long handle;
  final int bytes;
  final ByteBuffer memory;

  /** Uses by open and uncompleted command buffers. */
  int uses;

  ScriptedBuffer(long handle, int bytes) {
    this.handle = handle;
    this.bytes = bytes;
    int rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    this.memory =
        ByteBuffer.allocateDirect(rounded + ALIGNMENT)
            .alignedSlice(ALIGNMENT)
            .slice(0, bytes)
            .order(ByteOrder.nativeOrder());
    fill(0, bytes, FRESH);
  }

  void fill(int offset, int length, byte value) {
    for (int i = 0; i < length; i++) {
      memory.put(offset + i, value);
    }
  }

  ByteBuffer view(int offset, int length) {
    return memory.slice(offset, length).order(ByteOrder.nativeOrder());
  }
}
