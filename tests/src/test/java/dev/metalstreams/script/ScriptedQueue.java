package dev.metalstreams.script;

import dev.metalstreams.driver.CompletionFailure;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/** A queue of the scripted device. Guarded by the driver's lock, but for the volatile fields. */
final class ScriptedQueue {
  final long handle;
  final long id;
  final String label;
  final int maxInFlight;

  /** Its values are signalled by the host. */
  final boolean host;

  /** Written in the order that the contract asks for: failed, then completed. */
  volatile long failed;

  volatile long completed;

  /** What failed at {@link #failed}. */
  @Nullable CompletionFailure failure;

  long committed;
  @Nullable CommandBuffer open;
  final Deque<CommandBuffer> pending = new ArrayDeque<>();

  /**
   * Done, but their signals were lost: uncompleted for everyone until a later signal covers them.
   */
  final Deque<CommandBuffer> unsignalled = new ArrayDeque<>();

  /** The flags of every encode of an executable and of every commit, oldest first. */
  final List<Integer> encodeFlags = new ArrayList<>();

  final List<Integer> commitFlags = new ArrayList<>();

  boolean held;

  /** How many command buffers may run although the queue is held. */
  int steps;

  final Deque<CompletionFailure> failuresToCome = new ArrayDeque<>();
  boolean losesSignal;
  boolean losesCompletion;

  /** Who is inside a call that is serialised per queue. */
  final AtomicReference<@Nullable Thread> inside = new AtomicReference<>();

  ScriptedQueue(long handle, long id, String label, int maxInFlight) {
    this.handle = handle;
    this.id = id;
    this.label = label;
    this.maxInFlight = maxInFlight;
    this.host = maxInFlight == 0;
  }

  /** Whether a wait for the value ends by itself, or by the host's promise. */
  boolean promises(long value) {
    return host || Long.compareUnsigned(value, committed) <= 0;
  }

  int inFlight() {
    return pending.size() + unsignalled.size() + (open == null ? 0 : 1);
  }

  /** Whether the oldest command buffer can make a step. */
  boolean runnable() {
    CommandBuffer head = pending.peekFirst();
    return head != null && !head.blocked() && (!held || head.started || steps > 0);
  }
}
