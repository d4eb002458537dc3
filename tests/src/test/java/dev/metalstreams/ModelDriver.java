package dev.metalstreams;

import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.Status;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/**
 * A device without memory or threads, quick enough for a million steps: buffers are numbers, and an
 * operation is the note that it uses some. Queues go forward one operation at a time, in an order
 * drawn at random, in {@link #advance} and in waits; a command buffer ends in a step of its own.
 *
 * <p>It knows which operation may still touch which bytes, and tells its {@link Watcher} of every
 * operation when it runs. Thread-safe; the watcher is called with the device locked.
 */
final class ModelDriver implements Driver {
  private static final int MAX_IN_FLIGHT = 64;

  /** Sees what happens on the device. */
  interface Watcher {
    /** The driver has given a buffer. */
    void created(Buffer buffer);

    /** The driver is asked to take a buffer back. */
    void destroyed(Buffer buffer);

    /** Who has the buffer now; a number that grows from tenant to tenant. */
    long tenantOf(Buffer buffer);

    /** An operation reads or writes its buffer now. */
    void runs(Use use);
  }

  /** A live buffer, and what may still touch it. */
  static final class Buffer {
    final long handle;
    final long bytes;
    final List<Use> uses = new ArrayList<>();

    private Buffer(long handle, long bytes) {
      this.handle = handle;
      this.bytes = bytes;
    }
  }

  /**
   * An operation of an uncompleted command buffer that touches a buffer.
   *
   * @param ordered whether it is the core's to keep it behind the work of earlier tenants
   */
  record Use(Buffer buffer, long tenant, Queue queue, long value, boolean ordered) {
    @Override
    public String toString() {
      return "use of buffer "
          + buffer.handle
          + " by tenant "
          + tenant
          + " at "
          + value
          + " of queue "
          + queue.id;
    }
  }

  /** A step of a command buffer: a use or, without one, a wait. */
  private record Step(@Nullable Use use, @Nullable Queue awaited, long awaitedValue) {}

  private static final class Commands {
    final long value;
    final List<Step> steps = new ArrayList<>();
    int next;

    Commands(long value) {
      this.value = value;
    }
  }

  /** A queue; named by its id, which is its place. */
  static final class Queue {
    final long handle;
    final long id;
    private final int maxInFlight;
    private final Deque<Commands> pending = new ArrayDeque<>();
    private @Nullable Commands open;
    private long committed;
    private long completed;

    private Queue(long handle, long id, int maxInFlight) {
      this.handle = handle;
      this.id = id;
      this.maxInFlight = maxInFlight;
    }

    long completed() {
      return completed;
    }

    private boolean runnable() {
      Commands head = pending.peekFirst();
      if (head == null) {
        return false;
      }
      if (head.next == head.steps.size()) {
        return true;
      }
      Step step = head.steps.get(head.next);
      return step.awaited == null || step.awaited.completed >= step.awaitedValue;
    }
  }

  private record Completion(long queueId, long value) {}

  private static final class Slots implements Arguments {
    @Override
    public int capacity() {
      return 0;
    }

    @Override
    public void set(int index, long buffer) {
      throw new UnsupportedOperationException();
    }
  }

  private final Watcher watcher;
  private final SplittableRandom random;
  private final long limit;
  private final DeviceInfo info;
  private final Map<Long, Buffer> buffers = new HashMap<>();
  private final List<Queue> queues = new ArrayList<>();
  private final Deque<Completion> completions = new ArrayDeque<>();
  private long handles;
  private long allocated;
  private long heldByOthers;

  /**
   * @param limit bytes that the device has
   * @param maxBuffer largest buffer
   */
  ModelDriver(Watcher watcher, SplittableRandom random, long limit, long maxBuffer) {
    this.watcher = watcher;
    this.random = random;
    this.limit = limit;
    this.info =
        new DeviceInfo(
            "model", "model", "java", "none", limit, maxBuffer, 0, MAX_IN_FLIGHT, true, 1, "", "");
  }

  // ---- what the test does and sees

  /** One step of one queue, drawn at random; false if none can make one. */
  synchronized boolean advance() {
    int start = queues.isEmpty() ? 0 : random.nextInt(queues.size());
    for (int i = 0; i < queues.size(); i++) {
      Queue queue = queues.get((start + i) % queues.size());
      if (queue.runnable()) {
        step(queue);
        return true;
      }
    }
    return false;
  }

  private void step(Queue queue) {
    Commands head = queue.pending.getFirst();
    if (head.next < head.steps.size()) {
      Step step = head.steps.get(head.next++);
      if (step.use != null) {
        watcher.runs(step.use);
      }
      return;
    }
    queue.pending.removeFirst();
    for (Step step : head.steps) {
      if (step.use != null) {
        step.use.buffer.uses.remove(step.use);
      }
    }
    completions.addLast(new Completion(queue.id, head.value));
    queue.completed = head.value;
  }

  /**
   * Something that the core does not know of uses the buffer together with the last work queued on
   * a queue. Does nothing if no work is under way there.
   *
   * @param toldAt the last value queued when the core was told of it
   */
  synchronized void useUnseen(Buffer buffer, long tenant, long queueId, long toldAt) {
    Queue queue = byId(queueId);
    Commands last = queue.open != null ? queue.open : queue.pending.peekLast();
    if (last != null) {
      addUse(queue, last, buffer, tenant, last.value > toldAt);
    }
  }

  synchronized Queue byId(long queueId) {
    for (Queue queue : queues) {
      if (queue.id == queueId) {
        return queue;
      }
    }
    throw new IllegalArgumentException("no queue " + queueId);
  }

  synchronized Buffer buffer(long handle) {
    Buffer buffer = buffers.get(handle);
    if (buffer == null) {
      throw new DriverException(Status.INVALID_ARGUMENT, "no buffer " + handle);
    }
    return buffer;
  }

  /** Bytes of all buffers. */
  synchronized long allocated() {
    return allocated;
  }

  /** From now on the device keeps so many bytes for others, as compiled graphs do. */
  synchronized void hold(long bytes) {
    heldByOthers = bytes;
  }

  synchronized long heldByOthers() {
    return heldByOthers;
  }

  // ---- the driver

  @Override
  public synchronized DeviceInfo info() {
    return info;
  }

  @Override
  public synchronized DriverMemory memory() {
    return new DriverMemory(allocated + heldByOthers, buffers.size(), limit);
  }

  @Override
  public synchronized long createQueue(long id, String label, int maxInFlight) {
    queues.add(new Queue(++handles, id, maxInFlight));
    return handles;
  }

  @Override
  public synchronized long createHostQueue(long id, String label) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void signal(long queue, long value, @Nullable String failure) {
    throw new UnsupportedOperationException();
  }

  private Queue queue(long handle) {
    for (Queue queue : queues) {
      if (queue.handle == handle) {
        return queue;
      }
    }
    throw new DriverException(Status.INVALID_ARGUMENT, "no queue " + handle);
  }

  @Override
  public synchronized long completedValue(long queue) {
    return queue(queue).completed;
  }

  @Override
  public synchronized long failedValue(long queue) {
    return 0;
  }

  @Override
  public synchronized boolean awaitValue(long queue, long value, long timeoutNanos) {
    Queue awaited = queue(queue);
    if (value > awaited.committed) {
      throw new DriverException(Status.INVALID_STATE, value + " is not committed");
    }
    while (awaited.completed < value) {
      if (!advance()) {
        throw new AssertionError("deadlock: nothing can run before value " + value);
      }
    }
    return true;
  }

  @Override
  public synchronized boolean canAwait() {
    return true;
  }

  @Override
  public synchronized void resetQueue(long queue) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void destroyQueue(long queue) {
    queues.remove(queue(queue));
  }

  @Override
  public synchronized void begin(long queue, long value) {
    Queue on = queue(queue);
    if (on.open != null || value != on.committed + 1 || on.pending.size() >= on.maxInFlight) {
      throw new DriverException(Status.INVALID_STATE, "begin of " + value);
    }
    on.open = new Commands(value);
  }

  private static Commands open(Queue queue, long value) {
    Commands open = queue.open;
    if (open == null || open.value != value) {
      throw new DriverException(Status.INVALID_STATE, value + " is not open");
    }
    return open;
  }

  @Override
  public synchronized void commit(long queue, long value, int flags) {
    Queue on = queue(queue);
    on.pending.addLast(open(on, value));
    on.open = null;
    on.committed = value;
  }

  @Override
  public synchronized void discard(long queue, long value) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void encodeWait(
      long queue, long value, long awaitedQueue, long awaitedValue) {
    Queue awaited = queue(awaitedQueue);
    if (awaitedValue > awaited.committed) {
      throw new DriverException(Status.INVALID_STATE, awaitedValue + " is not committed");
    }
    Queue on = queue(queue);
    open(on, value).steps.add(new Step(null, awaited, awaitedValue));
  }

  @Override
  public synchronized void encodeFill(
      long queue, long value, long buffer, long offset, long length, byte fill) {
    use(queue, value, buffer, offset, length);
  }

  @Override
  public synchronized void encodeCopy(
      long queue,
      long value,
      long source,
      long sourceOffset,
      long target,
      long targetOffset,
      long length) {
    use(queue, value, source, sourceOffset, length);
    use(queue, value, target, targetOffset, length);
  }

  private void use(long queue, long value, long handle, long offset, long length) {
    Queue on = queue(queue);
    Buffer buffer = buffer(handle);
    if (offset + length > buffer.bytes) {
      throw new DriverException(Status.INVALID_ARGUMENT, "out of range");
    }
    addUse(on, open(on, value), buffer, watcher.tenantOf(buffer), true);
  }

  private static void addUse(
      Queue queue, Commands commands, Buffer buffer, long tenant, boolean ordered) {
    Use use = new Use(buffer, tenant, queue, commands.value, ordered);
    commands.steps.add(new Step(use, null, 0));
    buffer.uses.add(use);
  }

  @Override
  public synchronized void encodeExecutable(
      long queue, long value, long executable, Arguments arguments, int count, int flags) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void encodeLayerNorm(
      long queue,
      long value,
      long x,
      long gamma,
      long beta,
      long y,
      long rows,
      long columns,
      float eps) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized Arguments newArguments(int capacity) {
    return new Slots();
  }

  @Override
  public synchronized long createBuffer(long bytes) {
    if (bytes <= 0 || bytes > info.maxBufferBytes()) {
      throw new DriverException(Status.INVALID_ARGUMENT, "a buffer of " + bytes + " bytes");
    }
    if (bytes > limit - allocated - heldByOthers) {
      throw new DriverException(Status.OUT_OF_MEMORY, "full");
    }
    Buffer buffer = new Buffer(++handles, bytes);
    buffers.put(buffer.handle, buffer);
    allocated += bytes;
    watcher.created(buffer);
    return buffer.handle;
  }

  @Override
  public synchronized ByteBuffer contents(long buffer, long offset, int length) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void destroyBuffer(long handle) {
    Buffer buffer = buffer(handle);
    watcher.destroyed(buffer);
    buffers.remove(handle);
    allocated -= buffer.bytes;
  }

  @Override
  public synchronized long compile(GraphSpec graph) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized MatmulPath path(long executable, int flags) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized DriverCounters counters() {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized void destroyExecutable(long executable) {
    throw new UnsupportedOperationException();
  }

  @Override
  public synchronized int nextCompletions(CompletionSink sink, long timeoutNanos) {
    int count = completions.size();
    for (int i = 0; i < count; i++) {
      Completion completion = completions.removeFirst();
      sink.completed(completion.queueId, completion.value, 0, 0, null);
    }
    return count;
  }

  @Override
  public synchronized void wake() {}

  @Override
  public synchronized void close() {}
}
