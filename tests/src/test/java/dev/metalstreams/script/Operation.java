package dev.metalstreams.script;

import java.util.List;

/** One encoded operation of a {@link CommandBuffer}. */
sealed interface Operation {

  /**
   * Blocks the command buffer until the value is completed, and fails it if that queue failed by
   * then.
   */
  record Wait(ScriptedQueue awaited, long value) implements Operation {
    boolean satisfied() {
      return awaited.completed >= value;
    }
  }

  /** Sets bytes. */
  record Fill(ScriptedBuffer buffer, int offset, int length, byte value) implements Operation {}

  /** Copies bytes. */
  record Copy(
      ScriptedBuffer source, int sourceOffset, ScriptedBuffer target, int targetOffset, int length)
      implements Operation {}

  /** Runs a compiled graph. */
  record Execute(Program program, List<ScriptedBuffer> buffers) implements Operation {}
}
