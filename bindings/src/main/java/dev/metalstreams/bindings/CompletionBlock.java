package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_completion;
import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Where the library writes a batch of completions; used again for each. One thread at a time. */
final class CompletionBlock {

  /** Enough that a batch is as long as the wait for it; little enough to stay in the cache. */
  static final int CAPACITY = 64;

  private final MemorySegment entries;
  private final MemorySegment count;
  private final MemorySegment[] entry = new MemorySegment[CAPACITY];

  CompletionBlock() {
    Arena arena = Arena.ofAuto();
    entries = mst_completion.allocateArray(CAPACITY, arena);
    count = arena.allocate(mst_h.C_INT);
    for (int i = 0; i < CAPACITY; i++) {
      entry[i] = mst_completion.asSlice(entries, i);
    }
  }

  /**
   * Waits for completions and takes as many as there are and fit.
   *
   * @return how many
   */
  int take(MemorySegment device, long timeoutNanos) {
    int status = mst_h.mst_device_next_completions(device, entries, CAPACITY, timeoutNanos, count);
    if (status == mst_h.MST_TIMEOUT()) {
      return 0;
    }
    NativeCalls.check(status);
    return count.get(mst_h.C_INT, 0);
  }

  /** Passes the first {@code taken} on. */
  void report(int taken, CompletionSink sink) {
    for (int i = 0; i < taken; i++) {
      MemorySegment completion = entry[i];
      int status = mst_completion.status(completion);
      sink.completed(
          mst_completion.queue_id(completion),
          mst_completion.value(completion),
          mst_completion.gpu_start_ns(completion),
          mst_completion.gpu_end_ns(completion),
          status == mst_h.MST_OK()
              ? null
              : new CompletionFailure(
                  Status.of(status),
                  mst_completion.message(completion).getString(0),
                  mst_completion.cause_queue_id(completion),
                  mst_completion.cause_value(completion)));
    }
  }
}
