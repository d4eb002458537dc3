package dev.metalstreams.driver;

import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * All that the core knows of a device: the C ABI {@code mst.h}, one Java method per native call,
 * without a native type.
 *
 * <p>Handles are opaque {@code long}s, never 0; using one after its end is not allowed and not
 * checked here. A command buffer has no handle: it is named by its queue and by the timeline value
 * it will signal. The values of a queue are 1, 2, 3, … without a gap, at most one command buffer of
 * a queue is open at a time, and completed values never go back. A <em>host queue</em> has no
 * command buffers: its values are signalled by the CPU, and may be waited for before that.
 *
 * <p><b>Thread-safety.</b> Methods that take a queue and a value ({@code begin}, {@code commit},
 * {@code discard}, {@code encode…}), {@link #resetQueue} and {@link #destroyQueue} are serialised
 * per queue by the caller, who holds that stream's lock. Everything else may be called from any
 * thread.
 *
 * <p><b>Blocking.</b> Only {@link #awaitValue}, {@link #nextCompletions}, {@link #destroyQueue} and
 * {@link #close} wait for the device; the core never calls them from a virtual thread or with a
 * lock held. To destroy a host queue waits for nobody, if nobody is in {@link #awaitValue} for it.
 *
 * <p><b>Errors.</b> A refused call throws {@link DriverException} and has no effect. Lengths and
 * offsets are bytes, times are nanoseconds.
 */
public interface Driver extends AutoCloseable {

  /** {@link #commit} flag: nothing special. */
  int COMMIT_DEFAULT = 0;

  /**
   * {@link #commit} flag: the caller calls {@link #awaitValue} for this value at once. Only a hint.
   */
  int COMMIT_WAITING = 1;

  /** {@link #commit} flag: commit and continue, where the backend knows it. */
  int COMMIT_CONTINUE = 2;

  /** {@link #encodeExecutable} flag: nothing special. */
  int ENCODE_DEFAULT = 0;

  /**
   * {@link #encodeExecutable} flag: the caller vouches that at most one worker stream is live, and
   * that no other executable is being encoded in the process from the beginning of the call to its
   * end.
   */
  int ENCODE_SOLE = 1;

  /** What is known of the device. The same object on every call. */
  DeviceInfo info();

  /** The memory figures of this moment. */
  DriverMemory memory();

  /** The counters of this moment. */
  DriverCounters counters();

  // ---- queues

  /**
   * Creates a queue.
   *
   * @param id comes back in completions; unique in the device
   * @param label for debuggers
   * @param maxInFlight most uncompleted command buffers, 1 to {@link DeviceInfo#maxInFlight}
   */
  long createQueue(long id, String label, int maxInFlight);

  /**
   * Creates a host queue: its values are those of {@link #signal}.
   *
   * @param id comes back in completions; unique among the device's queues of both kinds
   * @param label for debuggers
   */
  long createHostQueue(long id, String label);

  /**
   * Completes all values of a host queue up to {@code value}, which is greater than the last one
   * signalled: what waits for them goes on. Thread-safe, never blocks.
   *
   * @param failure null, or what went wrong: then these values fail with {@link Status#EXECUTION}
   */
  void signal(long queue, long value, @Nullable String failure);

  /** The greatest value whose command buffer is done, 0 before the first. A few loads. */
  long completedValue(long queue);

  /**
   * The value of the first command buffer that failed since the last reset, 0 if none. Set before
   * that value is completed: who read a completed value &ge; v first, and then 0 or more than v
   * here, knows that v succeeded.
   */
  long failedValue(long queue);

  /**
   * Waits in native code until the value is completed, successfully or not. The calling platform
   * thread may execute device work meanwhile.
   *
   * @param timeoutNanos 0 only looks; negative is not allowed, so that no wait is deaf to
   *     interrupts
   * @return whether the value is completed; false after the time ran out
   */
  boolean awaitValue(long queue, long value, long timeoutNanos);

  /**
   * Whether {@link #awaitValue} can wait. If not, it only looks, and waiters park until the
   * completion thread wakes them.
   */
  boolean canAwait();

  /**
   * Whether a thread in {@link #awaitValue} may execute the work that it waits for; to poll first
   * would only delay that.
   */
  default boolean awaitHelps() {
    return false;
  }

  /** Forgets the failure of an idle queue. */
  void resetQueue(long queue);

  /**
   * Discards the open command buffer, lets committed ones run to their end, and ends the queue.
   * What waits for values of a host queue that were not signalled goes on, as after a failure.
   */
  void destroyQueue(long queue);

  // ---- command buffers

  /**
   * Opens the command buffer that will signal {@code value}, one more than the last committed
   * value.
   */
  void begin(long queue, long value);

  /** Commits the open command buffer. */
  void commit(long queue, long value, int flags);

  /** Drops the open command buffer; the same value is begun again next. */
  void discard(long queue, long value);

  // ---- encoding

  /**
   * Work encoded after this begins only once {@code awaitedValue}, already committed unless the
   * awaited queue is a host queue, is completed.
   */
  void encodeWait(long queue, long value, long awaitedQueue, long awaitedValue);

  /** Sets bytes. */
  void encodeFill(long queue, long value, long buffer, long offset, long length, byte fill);

  /** Copies bytes; ranges of one buffer must not overlap. */
  void encodeCopy(
      long queue,
      long value,
      long source,
      long sourceOffset,
      long target,
      long targetOffset,
      long length);

  /**
   * Runs an executable.
   *
   * @param arguments inputs, then outputs, in slots 0 to {@code count - 1}
   * @param flags {@link #ENCODE_DEFAULT} or {@link #ENCODE_SOLE}
   */
  void encodeExecutable(
      long queue, long value, long executable, Arguments arguments, int count, int flags);

  /** Runs an executable, vouching for nothing. */
  default void encodeExecutable(
      long queue, long value, long executable, Arguments arguments, int count) {
    encodeExecutable(queue, value, executable, arguments, count, ENCODE_DEFAULT);
  }

  /**
   * Normalises {@code rows} rows of {@code columns} F32 elements of x into y, which is none of the
   * other buffers.
   */
  void encodeLayerNorm(
      long queue,
      long value,
      long x,
      long gamma,
      long beta,
      long y,
      long rows,
      long columns,
      float eps);

  /**
   * Makes argument slots. They live as long as they are reachable, and are used by one thread at a
   * time.
   */
  Arguments newArguments(int capacity);

  // ---- buffers

  /**
   * Creates a buffer of {@code bytes} &gt; 0 that CPU and device both see; its content is
   * undefined.
   */
  long createBuffer(long bytes);

  /**
   * A direct view of a part of a buffer, in native byte order. It must not be touched after the
   * buffer's end: the view does not keep it alive.
   */
  ByteBuffer contents(long buffer, long offset, int length);

  /**
   * Ends a buffer. Refused, and the buffer lives on, while an uncompleted command buffer uses it.
   */
  void destroyBuffer(long buffer);

  // ---- graphs

  /** Compiles a graph. May take long; never called with a lock held. */
  long compile(GraphSpec graph);

  /**
   * The path that the matrix products of an executable take when it is encoded with these flags.
   */
  MatmulPath path(long executable, int flags);

  /** Ends an executable. Command buffers that use it keep it until they are done. */
  void destroyExecutable(long executable);

  // ---- completions

  /**
   * Passes completions to the sink, oldest first, and waits for the first at most {@code
   * timeoutNanos}. A completion can be had here before its value can be seen, a failure before what
   * depends on it, and those of a queue come in order.
   *
   * @return how many; 0 after the time ran out or after {@link #wake}
   */
  int nextCompletions(CompletionSink sink, long timeoutNanos);

  /** Makes the present or the next call of {@link #nextCompletions} return at once. */
  void wake();

  /**
   * Lets committed work run to its end and gives the device back. Idempotent; calls that come later
   * or at the same time are refused with {@link Status#INVALID_STATE}. Buffers and executables may
   * still be destroyed afterwards; their memory goes then.
   */
  @Override
  void close();
}
