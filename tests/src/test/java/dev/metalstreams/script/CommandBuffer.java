package dev.metalstreams.script;

import dev.metalstreams.driver.CompletionFailure;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** A command buffer from its begin to its completion. Guarded by the driver's lock. */
final class CommandBuffer {
  final long value;
  final List<Operation> operations = new ArrayList<>();

  /** The buffers it uses, one entry per use. */
  final List<ScriptedBuffer> uses = new ArrayList<>();

  /** Commit number over all queues: oldest first is the default order. */
  long commitNumber;

  /** Index of the operation that runs next. */
  int next;

  boolean started;

  /** Why it runs nothing more: it passes the waits that it has left, and completes. */
  @Nullable CompletionFailure failure;

  long startNanos;
  long endNanos;

  CommandBuffer(long value) {
    this.value = value;
  }

  /** Whether the next operation is a wait that does not hold yet. */
  boolean blocked() {
    return next < operations.size()
        && operations.get(next) instanceof Operation.Wait wait
        && !wait.satisfied();
  }

  /** Goes on to the next wait that does not hold yet, or to the end. */
  void skip() {
    while (next < operations.size() && !blocked()) {
      next++;
    }
  }

  /** The greatest value of a queue that it waits for; 0 for none. */
  long awaits(ScriptedQueue queue) {
    long greatest = 0;
    for (Operation operation : operations) {
      if (operation instanceof Operation.Wait wait && wait.awaited() == queue) {
        greatest = Math.max(greatest, wait.value());
      }
    }
    return greatest;
  }

  void use(ScriptedBuffer buffer) {
    uses.add(buffer);
    buffer.uses++;
  }

  void dropUses() {
    for (ScriptedBuffer buffer : uses) {
      buffer.uses--;
    }
    uses.clear();
  }
}
