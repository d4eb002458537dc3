package dev.metalstreams.script;

import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Violation.Rule;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * A driver in plain Java that refuses all that {@code mst.h} refuses, and that runs a command
 * buffer when its {@link Script} says so.
 *
 * <p><b>Protocol.</b> One fair lock guards every object of the device. A call checks its arguments,
 * then acts, under that lock; so does every step of a command buffer. A step is one operation or,
 * after the last one, the completion. The completion puts the record into the completion queue,
 * then the failed value, then the completed value, which is the order that the seam promises: the
 * last two are volatile and are read without the lock. One condition, {@link #changed}, tells every
 * waiter about every change.
 *
 * <p>Handles count upwards over all scripted devices of the process and are never used again, so a
 * handle of another device, an ended one and one of another kind are told apart from a live one.
 */
final class ScriptedDriver implements Driver {
  private static final AtomicLong HANDLES = new AtomicLong();
  private static final int MAX_IN_FLIGHT = 64;
  private static final int MAX_BUFFER_BYTES = 1 << 30;
  private static final int BATCH = 64;
  private static final DeviceInfo INFO =
      new DeviceInfo(
          "scripted",
          "scripted device",
          "java",
          "plain Java",
          1L << 30,
          MAX_BUFFER_BYTES,
          0,
          MAX_IN_FLIGHT,
          true,
          1,
          "0000000000000000",
          "");

  /** Who runs command buffers. */
  enum Mode {
    /** The script, step by step. */
    MANUAL,
    /** A thread of the device. */
    AUTOMATIC,
    /** The thread that commits. */
    IMMEDIATE,
    /** Threads that wait natively, as on the host shim. */
    WAITED_FOR
  }

  private record Completion(
      long queueId,
      long value,
      long startNanos,
      long endNanos,
      @Nullable CompletionFailure failure) {}

  private static final class Slots implements Arguments {
    final ScriptedDriver driver;
    final long[] buffers;

    Slots(ScriptedDriver driver, int capacity) {
      this.driver = driver;
      this.buffers = new long[capacity];
    }

    @Override
    public int capacity() {
      return buffers.length;
    }

    @Override
    public void set(int index, long buffer) {
      buffers[index] = buffer;
    }
  }

  private final ReentrantLock lock = new ReentrantLock(true);
  private final Condition changed = lock.newCondition();

  private final Map<Long, ScriptedQueue> queues = new ConcurrentHashMap<>();
  private final Map<Long, ScriptedQueue> queuesById = new ConcurrentHashMap<>();
  private final Map<Long, ScriptedBuffer> buffers = new HashMap<>();
  private final Map<Long, Program> executables = new HashMap<>();
  private final Set<Long> ended = ConcurrentHashMap.newKeySet();
  private final Deque<Completion> completions = new ArrayDeque<>();
  private final List<Violation> violations = Collections.synchronizedList(new ArrayList<>());
  private final Map<String, Runnable> interceptors = new ConcurrentHashMap<>();

  private volatile Mode mode;
  private final boolean canAwait;
  private final LongSupplier clock;
  private @Nullable Random order;
  private long memoryLimit;
  private long allocated;
  private long commits;
  private boolean woken;
  private boolean completionsHeld;
  private int completionsAllowed;
  private boolean closing;
  private boolean closed;
  private int draining;

  /** Encodes of executables that are under way. */
  private int encodes;

  private int soleEncodes;
  private long products;

  ScriptedDriver(
      Mode mode, boolean canAwait, long memoryLimit, LongSupplier clock, @Nullable Random order) {
    this.mode = mode;
    this.canAwait = canAwait;
    this.memoryLimit = memoryLimit;
    this.clock = clock;
    this.order = order;
    if (mode == Mode.AUTOMATIC) {
      Thread.ofPlatform().daemon().name("scripted-device").start(this::runByItself);
    }
  }

  // ---- the driver: device

  @Override
  public DeviceInfo info() {
    return INFO;
  }

  @Override
  public DriverMemory memory() {
    intercept("memory");
    lock.lock();
    try {
      requireOpen();
      return new DriverMemory(allocated, buffers.size(), memoryLimit);
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void close() {
    intercept("close");
    lock.lock();
    try {
      if (closed) {
        return;
      }
      if (queues.values().stream().anyMatch(queue -> !queue.pending.isEmpty())) {
        noteBlocking("close");
      }
      closing = true;
      for (ScriptedQueue queue : queues.values()) {
        queue.held = false;
        discardOpen(queue);
        if (queue.host) {
          endPromises(queue);
        }
      }
      changed.signalAll();
      while (stepAny() != null) {
        // Committed work runs to its end.
      }
      for (ScriptedQueue queue : queues.values()) {
        abandon(queue);
      }
      closed = true;
      changed.signalAll();
      while (draining > 0) {
        changed.awaitUninterruptibly();
      }
    } finally {
      lock.unlock();
    }
  }

  /** Only a lost signal leaves work behind that can never run: it ends with the device. */
  private void abandon(ScriptedQueue queue) {
    while (!queue.pending.isEmpty()) {
      complete(
          queue,
          new CompletionFailure(Status.DEVICE_LOST, "the device closed before this ran", 0, 0));
    }
    for (CommandBuffer commands : queue.unsignalled) {
      commands.dropUses();
    }
    queue.unsignalled.clear();
  }

  @Override
  public DriverCounters counters() {
    intercept("counters");
    lock.lock();
    try {
      requireOpen();
      return new DriverCounters(products, 0, 0, 0, 0, 0, 0, 0, DriverCounters.AgxGuard.OFF);
    } finally {
      lock.unlock();
    }
  }

  // ---- the driver: queues

  @Override
  public long createQueue(long id, String label, int maxInFlight) {
    intercept("createQueue");
    lock.lock();
    try {
      requireOpen();
      if (maxInFlight < 1 || maxInFlight > MAX_IN_FLIGHT) {
        throw refused(Status.INVALID_ARGUMENT, "max_in_flight is " + maxInFlight);
      }
      return add(id, label, maxInFlight);
    } finally {
      lock.unlock();
    }
  }

  private long add(long id, String label, int maxInFlight) {
    ScriptedQueue queue = new ScriptedQueue(newHandle(), id, label, maxInFlight);
    if (queuesById.putIfAbsent(id, queue) != null) {
      throw refused(Status.INVALID_ARGUMENT, "queue id " + id + " is taken");
    }
    queues.put(queue.handle, queue);
    changed.signalAll();
    return queue.handle;
  }

  @Override
  public long createHostQueue(long id, String label) {
    intercept("createHostQueue");
    lock.lock();
    try {
      requireOpen();
      return add(id, label, 0);
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void signal(long queue, long value, @Nullable String failure) {
    intercept("signal");
    lock.lock();
    try {
      ScriptedQueue target = queue(queue);
      requireOpen();
      if (!target.host) {
        throw refused(Status.INVALID_STATE, "queue " + target.id + " is not a host queue");
      }
      if (Long.compareUnsigned(value, target.completed) <= 0) {
        throw refused(Status.INVALID_STATE, "value " + value + " is signalled already");
      }
      if (target.losesSignal) {
        target.losesSignal = false;
        return;
      }
      complete(
          target,
          value,
          failure == null ? null : new CompletionFailure(Status.EXECUTION, failure, 0, 0));
      runIfImmediate();
    } finally {
      lock.unlock();
    }
  }

  /** All values of a host queue up to this one. */
  private void complete(ScriptedQueue queue, long value, @Nullable CompletionFailure failure) {
    completions.addLast(new Completion(queue.id, value, 0, 0, failure));
    if (failure != null && queue.failed == 0) {
      queue.failure = failure;
      queue.failed = queue.completed + 1;
    }
    queue.committed = value;
    queue.completed = value;
    changed.signalAll();
  }

  /** What waits for a host queue goes on: nobody signals it any more. */
  private void endPromises(ScriptedQueue host) {
    long awaited = 0;
    for (ScriptedQueue other : queues.values()) {
      for (CommandBuffer commands : other.pending) {
        awaited = Math.max(awaited, commands.awaits(host));
      }
      if (other.open != null) {
        awaited = Math.max(awaited, other.open.awaits(host));
      }
    }
    if (awaited > host.completed) {
      complete(
          host,
          awaited,
          new CompletionFailure(Status.EXECUTION, "never signalled: its host queue ended", 0, 0));
    }
  }

  @Override
  public long completedValue(long queue) {
    intercept("completedValue");
    return queue(queue).completed;
  }

  @Override
  public long failedValue(long queue) {
    return queue(queue).failed;
  }

  @Override
  public boolean awaitValue(long queue, long value, long timeoutNanos) {
    intercept("awaitValue");
    if (timeoutNanos < 0) {
      throw refused(Status.INVALID_ARGUMENT, "the timeout is negative: " + timeoutNanos);
    }
    ScriptedQueue awaited = queue(queue);
    boolean interrupted = false;
    if (timeoutNanos > 0 && canAwait) {
      noteBlocking("awaitValue");
    }
    lock.lock();
    try {
      if (!awaited.promises(value)) {
        throw refused(
            Status.INVALID_STATE,
            "value " + value + " of queue " + awaited.id + " is not committed");
      }
      long deadline = System.nanoTime() + timeoutNanos;
      while (awaited.completed < value) {
        if (awaited.host && (closed || ended.contains(queue))) {
          throw refused(Status.INVALID_STATE, "host queue " + awaited.id + " has ended");
        }
        if (!canAwait) {
          break;
        }
        if (mode == Mode.WAITED_FOR && stepOldest()) {
          changed.signalAll();
          continue;
        }
        long left = deadline - System.nanoTime();
        if (left <= 0) {
          break;
        }
        try {
          changed.awaitNanos(left);
        } catch (InterruptedException e) {
          interrupted = true; // Native code does not hear interrupts.
        }
      }
      return awaited.completed >= value;
    } finally {
      lock.unlock();
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  @Override
  public boolean canAwait() {
    return canAwait;
  }

  @Override
  public boolean awaitHelps() {
    return mode == Mode.WAITED_FOR;
  }

  @Override
  public void resetQueue(long queue) {
    serialised(
        "resetQueue",
        queue,
        target -> {
          if (target.inFlight() > 0) {
            throw refused(Status.INVALID_STATE, "queue " + target.id + " is not idle");
          }
          target.failure = null;
          target.failed = 0;
          changed.signalAll();
        });
  }

  @Override
  public void destroyQueue(long queue) {
    serialised(
        "destroyQueue",
        queue,
        target -> {
          if (!target.pending.isEmpty()) {
            noteBlocking("destroyQueue");
          }
          if (target.host) {
            endPromises(target);
          }
          discardOpen(target);
          while (!target.pending.isEmpty()) {
            if (mode == Mode.AUTOMATIC) {
              changed.awaitUninterruptibly();
            } else {
              target.held = false;
              if (stepAny() == null) {
                abandon(target);
              }
            }
          }
          abandon(target);
          for (ScriptedQueue other : queues.values()) {
            for (CommandBuffer commands : other.pending) {
              noteWaitsForEnded(other, commands, target);
            }
            if (other.open != null) {
              noteWaitsForEnded(other, other.open, target);
            }
          }
          queues.remove(queue);
          queuesById.remove(target.id);
          ended.add(queue);
          changed.signalAll();
        });
  }

  private void noteWaitsForEnded(
      ScriptedQueue waiting, CommandBuffer commands, ScriptedQueue gone) {
    for (Operation operation : commands.operations) {
      if (operation instanceof Operation.Wait wait && wait.awaited() == gone && !gone.host) {
        note(
            Rule.AWAITED_QUEUE_ENDED,
            "queue "
                + gone.id
                + " ended, value "
                + commands.value
                + " of "
                + waiting.id
                + " waits");
      }
    }
  }

  // ---- the driver: command buffers

  @Override
  public void begin(long queue, long value) {
    serialised(
        "begin",
        queue,
        target -> {
          requireOpen();
          if (target.host) {
            throw refused(Status.INVALID_STATE, "queue " + target.id + " is a host queue");
          }
          if (target.open != null) {
            throw refused(
                Status.INVALID_STATE,
                "value " + target.open.value + " of queue " + target.id + " is open");
          }
          if (value != target.committed + 1) {
            throw refused(
                Status.INVALID_STATE,
                "value "
                    + value
                    + " is not the next of queue "
                    + target.id
                    + ": "
                    + (target.committed + 1));
          }
          if (target.inFlight() >= target.maxInFlight) {
            throw refused(
                Status.BUSY,
                target.inFlight() + " uncompleted command buffers on queue " + target.id);
          }
          target.open = new CommandBuffer(value);
        });
  }

  @Override
  public void commit(long queue, long value, int flags) {
    serialised(
        "commit",
        queue,
        target -> {
          CommandBuffer commands = openCommands(target, value);
          if ((flags & ~(COMMIT_WAITING | COMMIT_CONTINUE)) != 0) {
            throw refused(Status.INVALID_ARGUMENT, "unknown flags " + flags);
          }
          target.commitFlags.add(flags);
          target.open = null;
          target.committed = value;
          commands.commitNumber = commits++;
          target.pending.addLast(commands);
          changed.signalAll();
          runIfImmediate();
        });
  }

  @Override
  public void discard(long queue, long value) {
    serialised(
        "discard",
        queue,
        target -> {
          openCommands(target, value);
          discardOpen(target);
        });
  }

  private static void discardOpen(ScriptedQueue queue) {
    if (queue.open != null) {
      queue.open.dropUses();
      queue.open = null;
    }
  }

  private CommandBuffer openCommands(ScriptedQueue queue, long value) {
    requireOpen();
    CommandBuffer open = queue.open;
    if (open == null || open.value != value) {
      throw refused(
          Status.INVALID_STATE, "value " + value + " of queue " + queue.id + " is not open");
    }
    return open;
  }

  // ---- the driver: encoding

  @Override
  public void encodeWait(long queue, long value, long awaitedQueue, long awaitedValue) {
    serialised(
        "encodeWait",
        queue,
        target -> {
          CommandBuffer commands = openCommands(target, value);
          ScriptedQueue awaited = queue(awaitedQueue);
          if (!awaited.promises(awaitedValue)) {
            throw refused(
                Status.INVALID_STATE,
                "value " + awaitedValue + " of queue " + awaited.id + " is not committed");
          }
          if (awaited != target) {
            commands.operations.add(new Operation.Wait(awaited, awaitedValue));
          }
        });
  }

  @Override
  public void encodeFill(long queue, long value, long buffer, long offset, long length, byte fill) {
    serialised(
        "encodeFill",
        queue,
        target -> {
          CommandBuffer commands = openCommands(target, value);
          ScriptedBuffer memory = buffer(buffer);
          requireRange("fill", memory, offset, length);
          commands.operations.add(new Operation.Fill(memory, (int) offset, (int) length, fill));
          commands.use(memory);
        });
  }

  @Override
  public void encodeCopy(
      long queue,
      long value,
      long source,
      long sourceOffset,
      long target,
      long targetOffset,
      long length) {
    serialised(
        "encodeCopy",
        queue,
        on -> {
          CommandBuffer commands = openCommands(on, value);
          ScriptedBuffer from = buffer(source);
          ScriptedBuffer to = buffer(target);
          requireRange("source of copy", from, sourceOffset, length);
          requireRange("target of copy", to, targetOffset, length);
          if (from == to
              && sourceOffset < targetOffset + length
              && targetOffset < sourceOffset + length) {
            throw refused(Status.INVALID_ARGUMENT, "the ranges of the copy overlap");
          }
          commands.operations.add(
              new Operation.Copy(from, (int) sourceOffset, to, (int) targetOffset, (int) length));
          commands.use(from);
          commands.use(to);
        });
  }

  @Override
  public void encodeExecutable(
      long queue, long value, long executable, Arguments arguments, int count, int flags) {
    beginEncode(flags);
    try {
      encode(queue, value, executable, arguments, count, flags);
    } finally {
      endEncode(flags);
    }
  }

  private void beginEncode(int flags) {
    lock.lock();
    try {
      boolean sole = (flags & ENCODE_SOLE) != 0;
      if (soleEncodes > 0 || (sole && encodes > 0)) {
        note(
            Rule.SOLE_NOT_ALONE,
            "encode with flags "
                + flags
                + " beside "
                + encodes
                + " others, of which "
                + soleEncodes
                + " are sole");
      }
      encodes++;
      soleEncodes += sole ? 1 : 0;
    } finally {
      lock.unlock();
    }
  }

  private void endEncode(int flags) {
    lock.lock();
    try {
      encodes--;
      soleEncodes -= (flags & ENCODE_SOLE) != 0 ? 1 : 0;
    } finally {
      lock.unlock();
    }
  }

  private void encode(
      long queue, long value, long executable, Arguments arguments, int count, int flags) {
    serialised(
        "encodeExecutable",
        queue,
        target -> {
          CommandBuffer commands = openCommands(target, value);
          Program program = live(executables, executable, "executable");
          if (!(arguments instanceof Slots slots) || slots.driver != this) {
            throw refused(Status.INVALID_ARGUMENT, "the arguments are not of this device");
          }
          if (count != program.argumentCount() || count > slots.buffers.length) {
            throw refused(
                Status.INVALID_ARGUMENT,
                count + " arguments, but the executable takes " + program.argumentCount());
          }
          if ((flags & ~ENCODE_SOLE) != 0) {
            throw refused(Status.INVALID_ARGUMENT, "unknown flags " + flags);
          }
          target.encodeFlags.add(flags);
          products += program.products();
          commands.operations.add(new Operation.Execute(program, check(program, slots.buffers)));
          for (int i = 0; i < count; i++) {
            commands.use(buffer(slots.buffers[i]));
          }
        });
  }

  @Override
  public void encodeLayerNorm(
      long queue,
      long value,
      long x,
      long gamma,
      long beta,
      long y,
      long rows,
      long columns,
      float eps) {
    serialised(
        "encodeLayerNorm",
        queue,
        target -> {
          CommandBuffer commands = openCommands(target, value);
          Program program = Program.layerNorm(rows, columns, eps);
          List<ScriptedBuffer> given = check(program, x, gamma, beta, y);
          commands.operations.add(new Operation.Execute(program, given));
          given.forEach(commands::use);
        });
  }

  private List<ScriptedBuffer> check(Program program, long... buffers) {
    List<ScriptedBuffer> given = new ArrayList<>();
    Map<Long, Integer> slotOf = new HashMap<>();
    for (int slot = 0; slot < program.argumentCount(); slot++) {
      ScriptedBuffer memory = buffer(buffers[slot]);
      if (memory.bytes < program.argumentBytes(slot)) {
        throw refused(
            Status.INVALID_ARGUMENT,
            "argument "
                + slot
                + " has "
                + memory.bytes
                + " bytes, but needs "
                + program.argumentBytes(slot));
      }
      Integer other = slotOf.putIfAbsent(memory.handle, slot);
      if (other != null && slot >= program.inputCount()) {
        throw refused(Status.INVALID_ARGUMENT, "output " + slot + " is argument " + other + " too");
      }
      given.add(memory);
    }
    return List.copyOf(given);
  }

  @Override
  public Arguments newArguments(int capacity) {
    if (capacity < 0) {
      throw refused(Status.INVALID_ARGUMENT, "a capacity of " + capacity);
    }
    return new Slots(this, capacity);
  }

  // ---- the driver: buffers

  @Override
  public long createBuffer(long bytes) {
    intercept("createBuffer");
    lock.lock();
    try {
      requireOpen();
      if (bytes <= 0 || bytes > MAX_BUFFER_BYTES) {
        throw refused(Status.INVALID_ARGUMENT, "a buffer of " + bytes + " bytes");
      }
      if (bytes > memoryLimit - allocated) {
        throw refused(
            Status.OUT_OF_MEMORY,
            bytes + " bytes, but " + allocated + " of " + memoryLimit + " are allocated");
      }
      ScriptedBuffer buffer = new ScriptedBuffer(newHandle(), (int) bytes);
      buffers.put(buffer.handle, buffer);
      allocated += bytes;
      return buffer.handle;
    } finally {
      lock.unlock();
    }
  }

  @Override
  public ByteBuffer contents(long buffer, long offset, int length) {
    intercept("contents");
    lock.lock();
    try {
      ScriptedBuffer memory = buffer(buffer);
      requireRange("view", memory, offset, length);
      return memory.view((int) offset, length);
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void destroyBuffer(long buffer) {
    intercept("destroyBuffer");
    lock.lock();
    try {
      ScriptedBuffer memory = buffer(buffer);
      if (memory.uses > 0) {
        note(
            Rule.DESTROYED_IN_USE,
            "buffer of " + memory.bytes + " bytes, " + memory.uses + " uncompleted uses");
        throw refused(Status.INVALID_STATE, "the buffer has " + memory.uses + " uncompleted uses");
      }
      memory.fill(0, memory.bytes, ScriptedBuffer.ENDED);
      buffers.remove(buffer);
      ended.add(buffer);
      allocated -= memory.bytes;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  // ---- the driver: graphs

  @Override
  public long compile(GraphSpec graph) {
    intercept("compile");
    Program program = Program.compile(graph);
    lock.lock();
    try {
      requireOpen();
      long handle = newHandle();
      executables.put(handle, program);
      return handle;
    } finally {
      lock.unlock();
    }
  }

  /** As on Metal, with a graph that is one product taken for one that suits both paths. */
  @Override
  public MatmulPath path(long executable, int flags) {
    lock.lock();
    try {
      Program program = live(executables, executable, "executable");
      if ((flags & ~ENCODE_SOLE) != 0) {
        throw refused(Status.INVALID_ARGUMENT, "unknown flags " + flags);
      }
      if (program.products() == 0) {
        return MatmulPath.NONE;
      }
      return flags == ENCODE_SOLE && program.isOneProduct() ? MatmulPath.NDARRAY : MatmulPath.GRAPH;
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void destroyExecutable(long executable) {
    intercept("destroyExecutable");
    lock.lock();
    try {
      live(executables, executable, "executable");
      executables.remove(executable);
      ended.add(executable);
    } finally {
      lock.unlock();
    }
  }

  // ---- the driver: completions

  @Override
  public int nextCompletions(CompletionSink sink, long timeoutNanos) {
    intercept("nextCompletions");
    if (timeoutNanos != 0) {
      noteBlocking("nextCompletions");
    }
    List<Completion> batch = new ArrayList<>();
    boolean interrupted = false;
    lock.lock();
    try {
      requireOpen();
    } catch (DriverException e) {
      lock.unlock();
      throw e;
    }
    draining++;
    try {
      long deadline = System.nanoTime() + timeoutNanos;
      while (!woken && !closed && !deliverable()) {
        long left = timeoutNanos < 0 ? Long.MAX_VALUE : deadline - System.nanoTime();
        if (left <= 0) {
          break;
        }
        try {
          changed.awaitNanos(left);
        } catch (InterruptedException e) {
          interrupted = true; // Native code does not hear interrupts.
        }
      }
      woken = false;
      while (batch.size() < BATCH && deliverable()) {
        batch.add(completions.removeFirst());
        if (completionsHeld) {
          completionsAllowed--;
        }
      }
    } finally {
      draining--;
      changed.signalAll();
      lock.unlock();
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
    for (Completion completion : batch) {
      sink.completed(
          completion.queueId,
          completion.value,
          completion.startNanos,
          completion.endNanos,
          completion.failure);
    }
    return batch.size();
  }

  private boolean deliverable() {
    return !completions.isEmpty() && (!completionsHeld || completionsAllowed > 0);
  }

  @Override
  public void wake() {
    intercept("wake");
    lock.lock();
    try {
      woken = true;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  // ---- execution

  private void runByItself() {
    while (true) {
      lock.lock();
      try {
        while (!closing && stepAny() == null) {
          changed.awaitUninterruptibly();
        }
        if (closing) {
          return;
        }
      } finally {
        lock.unlock();
      }
    }
  }

  private void runIfImmediate() {
    if (mode == Mode.IMMEDIATE) {
      while (stepAny() != null) {
        // Until nothing is left that can run.
      }
    }
  }

  /**
   * One step of one queue: of the oldest command buffer or, with a seed, of any. Null if none can.
   */
  private @Nullable ScriptedQueue stepAny() {
    List<ScriptedQueue> candidates = runnableQueues();
    if (candidates.isEmpty()) {
      return null;
    }
    ScriptedQueue chosen = candidates.get(order == null ? 0 : order.nextInt(candidates.size()));
    step(chosen);
    return chosen;
  }

  private List<ScriptedQueue> runnableQueues() {
    List<ScriptedQueue> runnable = new ArrayList<>();
    for (ScriptedQueue queue : queues.values()) {
      if (queue.runnable()) {
        runnable.add(queue);
      }
    }
    runnable.sort(Comparator.comparingLong(queue -> queue.pending.getFirst().commitNumber));
    return runnable;
  }

  /**
   * One operation of the oldest command buffer, or its completion. True if it was the completion.
   */
  private boolean step(ScriptedQueue queue) {
    CommandBuffer commands = queue.pending.getFirst();
    if (queue.held && !commands.started) {
      queue.steps--;
    }
    commands.started = true;
    if (commands.failure == null) {
      commands.failure = queue.failuresToCome.poll();
    }
    if (commands.failure == null
        && commands.next < commands.operations.size()
        && commands.operations.get(commands.next) instanceof Operation.Wait wait) {
      commands.failure = failureOf(wait);
    }
    if (commands.failure != null) {
      commands.skip();
      if (commands.blocked()) {
        return false;
      }
    }
    if (commands.next == commands.operations.size()) {
      if (commands.startNanos == 0 && commands.failure == null) {
        commands.startNanos = clock.getAsLong();
        commands.endNanos = commands.startNanos;
      }
      complete(queue, commands.failure);
      return true;
    }
    Operation operation = commands.operations.get(commands.next);
    if (!(operation instanceof Operation.Wait)) {
      if (commands.startNanos == 0) {
        commands.startNanos = clock.getAsLong();
      }
      execute(operation);
      commands.endNanos = clock.getAsLong();
    }
    commands.next++;
    return false;
  }

  private static void execute(Operation operation) {
    if (operation instanceof Operation.Fill fill) {
      fill.buffer().fill(fill.offset(), fill.length(), fill.value());
    } else if (operation instanceof Operation.Copy copy) {
      copy.target()
          .memory
          .put(copy.targetOffset(), copy.source().memory, copy.sourceOffset(), copy.length());
    } else if (operation instanceof Operation.Execute run) {
      run.program()
          .run(run.buffers().stream().map(buffer -> buffer.view(0, buffer.bytes)).toList());
    }
  }

  /** What a satisfied wait passes on: the first failure of the chain, or null. */
  private static @Nullable CompletionFailure failureOf(Operation.Wait wait) {
    ScriptedQueue awaited = wait.awaited();
    CompletionFailure failure = awaited.failure;
    if (failure == null || awaited.failed > wait.value()) {
      return null;
    }
    boolean chained = failure.status() == Status.DEPENDENCY;
    return new CompletionFailure(
        Status.DEPENDENCY,
        "waited for value " + wait.value() + " of queue " + awaited.id + ": " + failure.message(),
        chained ? failure.causeQueueId() : awaited.id,
        chained ? failure.causeValue() : awaited.failed);
  }

  private void complete(ScriptedQueue queue, @Nullable CompletionFailure failure) {
    CommandBuffer commands = queue.pending.removeFirst();
    if (queue.losesSignal) {
      queue.losesSignal = false;
      queue.unsignalled.addLast(commands);
      changed.signalAll();
      return;
    }
    if (queue.losesCompletion) {
      queue.losesCompletion = false;
    } else {
      completions.addLast(
          new Completion(
              queue.id, commands.value, commands.startNanos, commands.endNanos, failure));
    }
    if (failure != null && queue.failed == 0) {
      queue.failure = failure;
      queue.failed = commands.value;
    }
    queue.unsignalled.forEach(CommandBuffer::dropUses);
    queue.unsignalled.clear();
    commands.dropUses();
    queue.completed = commands.value;
    changed.signalAll();
  }

  // ---- what the script may do and see

  /** Runs an action of the script under the lock, and tells everyone. */
  <T> T act(Supplier<T> action) {
    lock.lock();
    try {
      T result = action.get();
      changed.signalAll();
      if (!closed) {
        runIfImmediate();
      }
      return result;
    } finally {
      lock.unlock();
    }
  }

  /** From now on, committing threads run all there is. */
  void letRun() {
    mode = Mode.IMMEDIATE;
    interceptors.clear();
    holdCompletions(false);
    for (ScriptedQueue queue : queues.values()) {
      queue.held = false;
    }
  }

  List<Long> runnableIds() {
    return runnableQueues().stream().map(queue -> queue.id).toList();
  }

  ScriptedQueue byId(long queueId) {
    ScriptedQueue queue = queuesById.get(queueId);
    if (queue == null) {
      throw new IllegalArgumentException("there is no queue with id " + queueId);
    }
    return queue;
  }

  ScriptedQueue byHandle(long handle) {
    return queue(handle);
  }

  List<Long> queueIds() {
    return queuesById.keySet().stream().sorted().toList();
  }

  /** One step; refuses a queue that cannot run. */
  boolean stepById(long queueId) {
    ScriptedQueue queue = byId(queueId);
    if (!queue.runnable()) {
      throw new IllegalStateException(
          "queue " + queueId + " cannot run: " + (queue.pending.isEmpty() ? "idle" : "waiting"));
    }
    return step(queue);
  }

  boolean stepAnyOf(Random random) {
    List<ScriptedQueue> runnable = runnableQueues();
    if (runnable.isEmpty()) {
      return false;
    }
    step(runnable.get(random.nextInt(runnable.size())));
    return true;
  }

  boolean stepOldest() {
    return stepAny() != null;
  }

  void setOrder(@Nullable Random order) {
    this.order = order;
  }

  void setMemoryLimit(long bytes) {
    memoryLimit = bytes;
  }

  void holdCompletions(boolean hold) {
    completionsHeld = hold;
    completionsAllowed = 0;
  }

  void allowCompletions(int count) {
    completionsAllowed += count;
  }

  int liveBuffers() {
    return buffers.size();
  }

  int liveExecutables() {
    return executables.size();
  }

  boolean isClosed() {
    return closed;
  }

  List<Violation> violations() {
    return List.copyOf(violations);
  }

  void setInterceptor(String method, @Nullable Runnable action) {
    if (action == null) {
      interceptors.remove(method);
    } else {
      interceptors.put(method, action);
    }
  }

  /** Waits for a state that other threads bring about. */
  void awaitState(BooleanSupplier state) throws InterruptedException {
    lock.lockInterruptibly();
    try {
      while (!state.getAsBoolean()) {
        changed.await();
      }
    } finally {
      lock.unlock();
    }
  }

  // ---- checks

  private interface QueueCall {
    void on(ScriptedQueue queue);
  }

  /** A call that can wait for the device is about to. */
  private void noteBlocking(String method) {
    if (Thread.currentThread().isVirtual()) {
      note(Rule.VIRTUAL_THREAD_BLOCKED, method + " by " + Thread.currentThread());
    }
  }

  /** A call that the caller serialises per queue: two at once are noted. */
  private void serialised(String method, long handle, QueueCall call) {
    ScriptedQueue queue = queue(handle);
    Thread self = Thread.currentThread();
    Thread other = queue.inside.compareAndExchange(null, self);
    if (other != null) {
      note(
          Rule.NOT_SERIALISED,
          method + " on queue " + queue.id + " by " + self + " while " + other + " is inside");
    }
    try {
      intercept(method);
      lock.lock();
      try {
        call.on(queue);
      } finally {
        lock.unlock();
      }
    } finally {
      if (other == null) {
        queue.inside.set(null);
      }
    }
  }

  private void intercept(String method) {
    Runnable interceptor = interceptors.get(method);
    if (interceptor != null) {
      interceptor.run();
    }
  }

  private void note(Rule rule, String detail) {
    violations.add(new Violation(rule, detail));
  }

  private void requireOpen() {
    if (closed) {
      throw refused(Status.INVALID_STATE, "the device is closed");
    }
  }

  private ScriptedQueue queue(long handle) {
    return live(queues, handle, "queue");
  }

  private ScriptedBuffer buffer(long handle) {
    return live(buffers, handle, "buffer");
  }

  private <T> T live(Map<Long, T> objects, long handle, String kind) {
    T object = objects.get(handle);
    if (object == null) {
      if (ended.contains(handle)) {
        note(Rule.USED_AFTER_END, kind + " " + handle);
        throw refused(Status.INVALID_ARGUMENT, "the " + kind + " has ended");
      }
      throw refused(
          Status.INVALID_ARGUMENT,
          handle == 0 ? "the " + kind + " is NULL" : "not a " + kind + " of this device");
    }
    return object;
  }

  private static void requireRange(String what, ScriptedBuffer buffer, long offset, long length) {
    if (offset < 0 || length < 0 || length > buffer.bytes || offset > buffer.bytes - length) {
      throw refused(
          Status.INVALID_ARGUMENT,
          what
              + " of "
              + Long.toUnsignedString(length)
              + " bytes from "
              + Long.toUnsignedString(offset)
              + " in a buffer of "
              + buffer.bytes);
    }
  }

  private static long newHandle() {
    return HANDLES.incrementAndGet();
  }

  private static DriverException refused(Status status, String message) {
    return new DriverException(status, message);
  }
}
