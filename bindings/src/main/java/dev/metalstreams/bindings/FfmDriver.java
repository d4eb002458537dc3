package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_device_counter_facts;
import dev.metalstreams.bindings.abi.mst_device_facts;
import dev.metalstreams.bindings.abi.mst_device_memory_facts;
import dev.metalstreams.bindings.abi.mst_device_options;
import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverFlag;
import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The driver over the C ABI: each method is one call of {@code mst.h}.
 *
 * <p><b>Invariant of closing.</b> Calls that take the device handle do so inside {@link
 * DeviceGate}, which {@link #close} shuts first: the library sees no call on a device that is
 * closed or being closed. Queues, buffers and executables keep their device alive, so calls on
 * those need no gate.
 */
final class FfmDriver implements Driver {
  private final MemorySegment device;
  private final DeviceInfo info;
  private final boolean awaitHelps;
  private final DeviceGate gate = new DeviceGate();

  /** CPU views of live buffers; the library tells the address once, at creation. */
  private final ConcurrentMap<Long, MemorySegment> contents = new ConcurrentHashMap<>();

  /** Guards {@link #completions}. */
  private final ReentrantLock drain = new ReentrantLock();

  private final CompletionBlock completions = new CompletionBlock();

  private FfmDriver(MemorySegment device, DeviceInfo info) {
    this.device = device;
    this.info = info;
    this.awaitHelps = info.backend().equals("host");
  }

  /**
   * Opens the first device of the library.
   *
   * @param math path of a CBLAS library or {@code builtin}; null to leave the choice to the library
   */
  static FfmDriver open(
      NativeLibrary library, int workers, @Nullable String math, Set<DriverFlag> flags) {
    if (workers < 0) {
      throw new DriverException(
          Status.INVALID_ARGUMENT, workers + " workers; 0 or more are needed");
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment options = mst_device_options.allocate(arena);
      mst_device_options.worker_count(options, workers);
      mst_device_options.flags(options, flags.stream().mapToInt(DriverFlag::bit).sum());
      mst_device_options.math_library(
          options, math == null ? MemorySegment.NULL : arena.allocateFrom(math));
      MemorySegment out = arena.allocate(mst_h.C_POINTER);
      NativeCalls.check(mst_h.mst_device_open(0, options, out));
      MemorySegment device = out.get(mst_h.C_POINTER, 0);
      MemorySegment facts = mst_device_facts.allocate(arena);
      int told = mst_h.mst_device_info(device, facts);
      if (told != mst_h.MST_OK()) {
        DriverException refused = NativeCalls.failure(told);
        NativeCalls.end(() -> mst_h.mst_device_close(device));
        throw refused;
      }
      return new FfmDriver(device, info(facts, library));
    }
  }

  private static DeviceInfo info(MemorySegment facts, NativeLibrary library) {
    return new DeviceInfo(
        library.probe().backend(),
        mst_device_facts.name(facts).getString(0),
        mst_device_facts.family(facts).getString(0),
        mst_device_facts.math(facts).getString(0),
        mst_device_facts.recommended_bytes(facts),
        mst_device_facts.max_buffer_bytes(facts),
        mst_device_facts.worker_count(facts),
        mst_device_facts.max_in_flight(facts),
        mst_device_facts.unified_memory(facts) != 0,
        library.probe().abiVersion(),
        library.probe().buildId(),
        library.file().toString());
  }

  @Override
  public DeviceInfo info() {
    return info;
  }

  @Override
  public DriverMemory memory() {
    gate.enter();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment facts = mst_device_memory_facts.allocate(arena);
      NativeCalls.check(mst_h.mst_device_memory(device, facts));
      return new DriverMemory(
          mst_device_memory_facts.allocated_bytes(facts),
          mst_device_memory_facts.buffer_count(facts),
          mst_device_memory_facts.limit_bytes(facts));
    } finally {
      gate.leave();
    }
  }

  @Override
  public DriverCounters counters() {
    gate.enter();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment facts = mst_device_counter_facts.allocate(arena);
      NativeCalls.check(mst_h.mst_device_counters(device, facts));
      return new DriverCounters(
          mst_device_counter_facts.matmuls_by_graph(facts),
          mst_device_counter_facts.matmuls_by_ndarray(facts),
          mst_device_counter_facts.layer_norms(facts),
          mst_device_counter_facts.early_commits(facts),
          mst_device_counter_facts.agx_acquisitions(facts),
          mst_device_counter_facts.agx_contentions(facts),
          mst_device_counter_facts.agx_live_encoders(facts),
          mst_device_counter_facts.agx_forced_ends(facts),
          DriverCounters.AgxGuard.of(mst_device_counter_facts.agx_guard(facts)));
    } finally {
      gate.leave();
    }
  }

  // ---- queues

  @Override
  public long createQueue(long id, String label, int maxInFlight) {
    gate.enter();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_POINTER);
      NativeCalls.check(
          mst_h.mst_queue_create(device, id, arena.allocateFrom(label), maxInFlight, out));
      return out.get(mst_h.C_POINTER, 0).address();
    } finally {
      gate.leave();
    }
  }

  @Override
  public long createHostQueue(long id, String label) {
    gate.enter();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_POINTER);
      NativeCalls.check(mst_h.mst_queue_create_host(device, id, arena.allocateFrom(label), out));
      return out.get(mst_h.C_POINTER, 0).address();
    } finally {
      gate.leave();
    }
  }

  @Override
  public void signal(long queue, long value, @Nullable String failure) {
    if (failure == null) {
      NativeCalls.check(
          mst_h.mst_queue_signal(NativeCalls.handle(queue), value, MemorySegment.NULL));
      return;
    }
    try (Arena arena = Arena.ofConfined()) {
      NativeCalls.check(
          mst_h.mst_queue_signal(NativeCalls.handle(queue), value, arena.allocateFrom(failure)));
    }
  }

  @Override
  public long completedValue(long queue) {
    return NativeCalls.completedValue(NativeCalls.handle(queue));
  }

  @Override
  public long failedValue(long queue) {
    return NativeCalls.failedValue(NativeCalls.handle(queue));
  }

  @Override
  public boolean awaitValue(long queue, long value, long timeoutNanos) {
    if (timeoutNanos < 0) {
      throw new DriverException(Status.INVALID_ARGUMENT, "a wait of " + timeoutNanos + " ns");
    }
    int status = mst_h.mst_queue_wait(NativeCalls.handle(queue), value, timeoutNanos);
    if (status == mst_h.MST_TIMEOUT()) {
      return false;
    }
    NativeCalls.check(status);
    return true;
  }

  @Override
  public boolean canAwait() {
    return true;
  }

  @Override
  public boolean awaitHelps() {
    return awaitHelps;
  }

  @Override
  public void resetQueue(long queue) {
    NativeCalls.check(mst_h.mst_queue_reset(NativeCalls.handle(queue)));
  }

  @Override
  public void destroyQueue(long queue) {
    NativeCalls.end(() -> mst_h.mst_queue_destroy(NativeCalls.handle(queue)));
  }

  // ---- command buffers

  @Override
  public void begin(long queue, long value) {
    NativeCalls.check(mst_h.mst_commands_begin(NativeCalls.handle(queue), value));
  }

  @Override
  public void commit(long queue, long value, int flags) {
    NativeCalls.check(mst_h.mst_commands_commit(NativeCalls.handle(queue), value, flags));
  }

  @Override
  public void discard(long queue, long value) {
    NativeCalls.check(mst_h.mst_commands_discard(NativeCalls.handle(queue), value));
  }

  // ---- encoding

  @Override
  public void encodeWait(long queue, long value, long awaitedQueue, long awaitedValue) {
    NativeCalls.check(
        mst_h.mst_encode_wait(
            NativeCalls.handle(queue), value, NativeCalls.handle(awaitedQueue), awaitedValue));
  }

  @Override
  public void encodeFill(long queue, long value, long buffer, long offset, long length, byte fill) {
    NativeCalls.check(
        mst_h.mst_encode_fill(
            NativeCalls.handle(queue), value, NativeCalls.handle(buffer), offset, length, fill));
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
    NativeCalls.check(
        mst_h.mst_encode_copy(
            NativeCalls.handle(queue),
            value,
            NativeCalls.handle(source),
            sourceOffset,
            NativeCalls.handle(target),
            targetOffset,
            length));
  }

  @Override
  public void encodeExecutable(
      long queue, long value, long executable, Arguments arguments, int count, int flags) {
    if (!(arguments instanceof NativeArguments slots)) {
      throw new DriverException(Status.INVALID_ARGUMENT, "arguments of another driver");
    }
    if (count < 0 || count > slots.capacity()) {
      throw new DriverException(
          Status.INVALID_ARGUMENT, count + " of " + slots.capacity() + " arguments");
    }
    NativeCalls.check(
        mst_h.mst_encode_executable(
            NativeCalls.handle(queue),
            value,
            NativeCalls.handle(executable),
            slots.slots(),
            count,
            flags));
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
    NativeCalls.check(
        mst_h.mst_encode_layer_norm(
            NativeCalls.handle(queue),
            value,
            NativeCalls.handle(x),
            NativeCalls.handle(gamma),
            NativeCalls.handle(beta),
            NativeCalls.handle(y),
            rows,
            columns,
            eps));
  }

  @Override
  public Arguments newArguments(int capacity) {
    return new NativeArguments(capacity);
  }

  // ---- buffers

  @Override
  public long createBuffer(long bytes) {
    gate.enter();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_POINTER, 2);
      NativeCalls.check(
          mst_h.mst_buffer_create(
              device,
              bytes,
              mst_h.MST_STORAGE_SHARED(),
              out,
              out.asSlice(mst_h.C_POINTER.byteSize())));
      long buffer = out.getAtIndex(mst_h.C_POINTER, 0).address();
      contents.put(buffer, out.getAtIndex(mst_h.C_POINTER, 1).reinterpret(bytes));
      return buffer;
    } finally {
      gate.leave();
    }
  }

  @Override
  public ByteBuffer contents(long buffer, long offset, int length) {
    MemorySegment whole = contents.get(buffer);
    if (whole == null) {
      throw new DriverException(Status.INVALID_ARGUMENT, "not a buffer of this device");
    }
    if (offset < 0 || length < 0 || offset > whole.byteSize() - length) {
      throw new DriverException(
          Status.INVALID_ARGUMENT,
          length + " bytes from " + offset + " of a buffer of " + whole.byteSize());
    }
    return whole.asSlice(offset, length).asByteBuffer().order(ByteOrder.nativeOrder());
  }

  @Override
  public void destroyBuffer(long buffer) {
    // Before the buffer ends: once it has, a new one may have its address.
    MemorySegment whole = contents.remove(buffer);
    try {
      NativeCalls.end(() -> mst_h.mst_buffer_destroy(NativeCalls.handle(buffer)));
    } catch (DriverException e) {
      if (whole != null) {
        contents.put(buffer, whole);
      }
      throw e;
    }
  }

  // ---- graphs

  @Override
  public long compile(GraphSpec graph) {
    gate.enter();
    try {
      return GraphCompiler.compile(device, graph).address();
    } finally {
      gate.leave();
    }
  }

  @Override
  public MatmulPath path(long executable, int flags) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_INT);
      NativeCalls.check(mst_h.mst_executable_path(NativeCalls.handle(executable), flags, out));
      return MatmulPath.of(out.get(mst_h.C_INT, 0));
    }
  }

  @Override
  public void destroyExecutable(long executable) {
    NativeCalls.end(() -> mst_h.mst_executable_destroy(NativeCalls.handle(executable)));
  }

  // ---- completions

  @Override
  public int nextCompletions(CompletionSink sink, long timeoutNanos) {
    drain.lock();
    try {
      int taken;
      gate.enter();
      try {
        taken = completions.take(device, timeoutNanos);
      } finally {
        gate.leave();
      }
      completions.report(taken, sink);
      return taken;
    } finally {
      drain.unlock();
    }
  }

  @Override
  public void wake() {
    gate.enter();
    try {
      NativeCalls.check(mst_h.mst_device_wake(device));
    } finally {
      gate.leave();
    }
  }

  /**
   * {@inheritDoc} A thread in {@link #nextCompletions} is woken; not to be called from its sink.
   */
  @Override
  public void close() {
    // A wake that is refused is followed by the next.
    if (gate.shut(() -> mst_h.mst_device_wake(device))) {
      NativeCalls.end(() -> mst_h.mst_device_close(device));
    }
  }
}
