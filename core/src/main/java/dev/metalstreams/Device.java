package dev.metalstreams;

import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.Status;
import java.lang.System.Logger.Level;
import java.nio.file.Path;
import java.time.Duration;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.ServiceLoader;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A device: its streams, its memory and what is compiled for it.
 *
 * <pre>{@code
 * try (Device device = Device.open()) {
 *   Executable exe = device.compile(graph);
 *   try (Tensor x = device.tensor(row, 1, 64); Tensor y = exe.run(x)) {
 *     float[] result = y.toFloats();
 *   }
 * }
 * }</pre>
 *
 * <p><b>Thread-safety.</b> All methods may be called from any thread. The thread that opens the
 * device is its <em>owner thread</em>: it gets stream 0.
 *
 * <p><b>Closing</b> ends everything that belongs to the device: new work is refused, work under way
 * is waited for, then buffers, executables and streams go. Using them afterwards throws {@link
 * DeviceClosedException} or {@link IllegalStateException}.
 */
public final class Device implements AutoCloseable {
  private static final System.Logger LOGGER = System.getLogger("dev.metalstreams");

  private enum State {
    OPEN,
    CLOSING,
    CLOSED
  }

  private final Settings settings;
  private final Parts parts;
  private final Driver driver;
  private final DeviceInfo info;

  private final LockOrder lockOrder;
  private final EncodeGate encodeGate;
  private final StreamPool streams;
  private final HostEvents hostEvents;
  private final Allocator allocator;
  private final DeviceMemory memory;
  private final GraphCache graphs;
  private final @Nullable Hazards hazards;
  private final CompletionLoop completions;
  private final ConcurrentHashMap<Long, Timeline> timelines = new ConcurrentHashMap<>();
  private final Set<Executable> executables = ConcurrentHashMap.newKeySet();
  private final AtomicReference<State> state = new AtomicReference<>(State.OPEN);
  private final AtomicReference<@Nullable DeviceLostException> lost = new AtomicReference<>();
  private final ReentrantLock closing = new ReentrantLock();

  private Device(Settings settings, Parts parts, Driver driver) {
    this.settings = settings;
    this.parts = parts;
    this.driver = driver;
    this.info = driver.info();
    this.lockOrder = settings.debug ? new LockOrder.Checked() : LockOrder.UNCHECKED;
    this.hazards = settings.hazards == HazardMode.OFF ? null : parts.hazards(this);
    this.allocator = parts.allocator(this);
    this.memory = new DeviceMemory(this, allocator);
    this.graphs = new GraphCache(driver::compile, this::destroyExecutable, settings.graphCacheSize);
    this.encodeGate = parts.encodeGate();
    this.streams = new StreamPool(this, settings);
    this.hostEvents = parts.hostEvents(this);
    this.completions = new CompletionLoop(this);
    encodeGate.add(streams);
  }

  /**
   * Opens the default device with the settings of system properties and environment.
   *
   * @throws DeviceUnavailableException if there is none; the message says why and what to do
   * @throws IllegalArgumentException if a setting is malformed; the message names it
   */
  public static Device open() {
    return builder().open();
  }

  /** Opens a device with settings of its own. */
  public static Builder builder() {
    return new Builder();
  }

  /** What is known of the device. */
  public DeviceInfo info() {
    return info;
  }

  /**
   * The driver's counters of this moment: which way matrix products went, and what the AGX guard
   * did.
   *
   * @throws DeviceClosedException if the device is closed
   */
  public DriverCounters counters() {
    checkOpen();
    try {
      return driver.counters();
    } catch (DriverException e) {
      throw translate(e, "reading the counters");
    }
  }

  /** The settings in force. */
  public Settings settings() {
    return settings;
  }

  /** The streams. */
  public StreamPool streams() {
    return streams;
  }

  /**
   * Compiles a graph, unless an equal one is compiled already: that is shared. If another thread is
   * compiling it, this waits for it. May take long; holds no lock.
   *
   * @return to be closed by the caller; what is compiled stays for a while, as the setting {@code
   *     graph.cache.size} says
   * @throws DeviceClosedException if the device is closed
   * @throws MetalStreamsException if the backend cannot compile it
   * @throws WaitInterruptedException if interrupted while another thread compiles it
   */
  public Executable compile(Graph graph) {
    Objects.requireNonNull(graph, "graph");
    checkOpen();
    Executable executable;
    try {
      executable = new Executable(this, graph, graphs.acquire(graph.spec()));
    } catch (DriverException e) {
      throw translate(e, "compiling " + graph);
    }
    executables.add(executable);
    if (isClosed()) {
      executable.close(); // close() may have looked through the set before
      throw closed();
    }
    return executable;
  }

  /**
   * Makes an event that the CPU completes. Thousands may be open at once; each takes a little
   * memory of the device until it is signalled.
   *
   * @throws DeviceClosedException if the device is closed
   * @throws MetalStreamsException if the driver refuses
   */
  public HostEvent hostEvent() {
    checkOpen();
    return hostEvents.create();
  }

  /** Figures of the compiled graphs. */
  public GraphCacheStats graphCache() {
    return graphs.stats();
  }

  /** What the race detector has done so far. */
  public HazardStats hazards() {
    return hazards == null ? new HazardStats(HazardMode.OFF, 0, 0, 0) : hazards.stats();
  }

  /**
   * Allocates memory on the current stream; its content is undefined.
   *
   * @throws IllegalArgumentException if {@code bytes} is not positive
   * @throws OutOfDeviceMemoryException if it cannot be had
   * @throws DeviceClosedException if the device is closed
   */
  public DeviceBuffer allocate(long bytes) {
    checkOpen();
    return allocator.allocate(bytes, streams.current(), false);
  }

  /**
   * Allocates memory on a stream; its content is undefined.
   *
   * @throws IllegalArgumentException if {@code bytes} is not positive, or the stream belongs to
   *     another device
   * @throws OutOfDeviceMemoryException if it cannot be had
   * @throws DeviceClosedException if the device is closed
   */
  public DeviceBuffer allocate(long bytes, DeviceStream stream) {
    if (Objects.requireNonNull(stream, "stream").device() != this) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
    checkOpen();
    return allocator.allocate(bytes, stream, false);
  }

  /**
   * Makes a tensor of the current stream with these elements.
   *
   * @throws IllegalArgumentException if there are not as many values as the shape says
   */
  public Tensor tensor(float[] values, long... shape) {
    return tensor(DType.F32, values, shape);
  }

  /**
   * Makes a tensor of the current stream with these elements, rounded to a type.
   *
   * @throws IllegalArgumentException if there are not as many values as the shape says
   */
  public Tensor tensor(DType type, float[] values, long... shape) {
    Objects.requireNonNull(type, "type");
    Objects.requireNonNull(values, "values");
    Shape extents = Shape.of(shape);
    if (values.length != extents.elements()) {
      throw new IllegalArgumentException(
          values.length + " values for the shape " + extents + ", which has " + extents.elements());
    }
    checkOpen();
    Tensor tensor =
        new Tensor(
            type,
            extents,
            allocator.allocate(Tensor.bytes(type, extents), streams.current(), true));
    try {
      tensor.write(values);
      return tensor;
    } catch (RuntimeException e) {
      tensor.close();
      throw e;
    }
  }

  /** Makes a tensor of the current stream whose elements are undefined. */
  public Tensor empty(DType type, long... shape) {
    Objects.requireNonNull(type, "type");
    Shape extents = Shape.of(shape);
    checkOpen();
    return empty(streams.current(), type, extents);
  }

  Tensor empty(DeviceStream stream, DType type, Shape shape) {
    checkOpen();
    return new Tensor(type, shape, allocator.allocate(Tensor.bytes(type, shape), stream, false));
  }

  /** The memory. */
  public DeviceMemory memory() {
    return memory;
  }

  /**
   * Waits until everything that was encoded on any stream before this call is done.
   *
   * @throws StreamFailedException if any of it failed: the first failure, with the others
   *     suppressed in it. Every stream is waited for all the same
   * @throws WaitTimeoutException if a stream makes no progress for the time of the setting {@code
   *     wait.watchdog.ms}
   */
  public void synchronize() {
    synchronize(-1);
  }

  /**
   * Waits until everything that was encoded on any stream before this call is done, for at most a
   * time.
   *
   * @throws StreamFailedException as {@link #synchronize()}
   * @throws WaitTimeoutException if the time runs out first
   */
  public void synchronize(Duration timeout) {
    synchronize(nanos(timeout));
  }

  private void synchronize(long timeoutNanos) {
    checkOpen();
    List<DeviceStream> all = streams.all();
    DeviceEvent[] events = new DeviceEvent[all.size()];
    boolean[] settled = new boolean[events.length];
    RuntimeException first = null;
    for (int i = 0; i < events.length; i++) { // all of them work while the first is waited for
      DeviceStream stream = all.get(i);
      events[i] = stream.here();
      settled[i] = stream.timeline().settled(events[i].value());
      try {
        stream.flushTo(events[i].value(), Driver.COMMIT_DEFAULT);
      } catch (MetalStreamsException e) {
        first = suppress(first, e);
      }
    }
    long started = System.nanoTime();
    for (int i = 0; i < events.length; i++) {
      long left = timeoutNanos < 0 ? -1 : Math.max(0, timeoutNanos - (System.nanoTime() - started));
      try {
        events[i].stream().await(events[i], left, settled[i]);
      } catch (WaitInterruptedException e) {
        throw e;
      } catch (MetalStreamsException e) {
        first = suppress(first, e);
      }
    }
    if (first != null) {
      throw first;
    }
  }

  private static RuntimeException suppress(
      @Nullable RuntimeException first, RuntimeException next) {
    if (first == null) {
      return next;
    }
    if (!first.equals(next)) { // the end of the device is the same for every stream
      first.addSuppressed(next);
    }
    return first;
  }

  /** Whether it is closed, or closing. */
  public boolean isClosed() {
    return state.get() != State.OPEN;
  }

  /** Whether the device is gone: {@link DeviceLostException}. */
  public boolean isLost() {
    return lost.get() != null;
  }

  /**
   * Closes the device: refuses new work, fails host events that are not signalled, waits for work
   * under way for at most the setting {@code close.timeout.ms}, and gives everything back. Work
   * that failed is not reported here. Idempotent; a second closer waits for the first. An interrupt
   * is kept for later.
   *
   * @throws WaitTimeoutException if work is still under way then. Its native memory is not given
   *     back, since the device may still write it
   * @throws MetalStreamsException if the driver refuses to give back what it is to
   */
  @Override
  public void close() {
    state.compareAndSet(State.OPEN, State.CLOSING);
    closing.lock();
    try {
      if (state.get() != State.CLOSED) {
        state.set(State.CLOSED);
        end();
      }
    } finally {
      closing.unlock();
    }
  }

  private void end() {
    boolean interrupted = Thread.interrupted();
    try {
      long deadline = System.nanoTime() + settings.closeTimeout.toNanos();
      List<DeviceStream> all = streams.close();
      all.forEach(DeviceStream::close);
      DeviceClosedException over = closed();
      hostEvents.close(over); // what waits for them can go on
      streams.leaveGate();
      WaitTimeoutException hung = null;
      for (DeviceStream stream : all) {
        Timeline timeline = stream.timeline();
        boolean waiting = true;
        while (waiting) {
          waiting = false;
          try {
            timeline.awaitReached(timeline.submitted(), Math.max(0, deadline - System.nanoTime()));
          } catch (WaitInterruptedException e) {
            interrupted |= Thread.interrupted(); // kept for later: the device cannot be half closed
            waiting = true;
          } catch (WaitTimeoutException e) {
            hung = e;
          } catch (DeviceLostException e) {
            // Nobody is told any more, but what is under way may still write its memory.
            if (!timeline.drained(Math.max(0, deadline - System.nanoTime()))) {
              hung = new WaitTimeoutException(timeline + " does not end: natives are not released");
            }
          } catch (MetalStreamsException e) {
            log(Level.DEBUG, "while closing", e);
          }
        }
      }
      boolean stopped =
          completions.stop(Math.max(0, deadline - System.nanoTime()) + 1_000_000_000L);
      all.forEach(stream -> stream.timeline().end(over));
      hostEvents.end(over);
      if (hung != null || !stopped) {
        throw hung != null
            ? hung
            : new WaitTimeoutException(
                "the completion thread did not end: natives are not released");
      }
      allocator.close();
      executables.forEach(Executable::close);
      graphs.close();
      RuntimeException kept = null;
      for (DeviceStream stream : all) {
        try {
          stream.timeline().destroyQueue();
        } catch (DriverException e) {
          kept = suppress(kept, new MetalStreamsException("the driver kept " + stream, e));
        }
      }
      hostEvents.destroy();
      try {
        driver.close();
      } catch (DriverException e) {
        kept = suppress(kept, new MetalStreamsException("the driver kept the device", e));
      }
      if (kept != null) {
        throw kept;
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  // ---- for the parts

  void checkOpen() {
    if (state.get() != State.OPEN) {
      throw closed();
    }
    checkLost();
  }

  void checkLost() {
    DeviceLostException gone = lost.get();
    if (gone != null) {
      throw new DeviceLostException("the device is lost", gone);
    }
  }

  private static DeviceClosedException closed() {
    return new DeviceClosedException("the device is closed");
  }

  Driver driver() {
    return driver;
  }

  Parts parts() {
    return parts;
  }

  /** The race detector, if there is one. */
  @Nullable Hazards detector() {
    return hazards;
  }

  EncodeGate encodeGate() {
    return encodeGate;
  }

  LockOrder lockOrder() {
    return lockOrder;
  }

  Allocator allocator() {
    return allocator;
  }

  CompletionLoop completions() {
    return completions;
  }

  @Nullable Timeline timeline(long queueId) {
    return timelines.get(queueId);
  }

  /** From now on completions of a queue go to this timeline. */
  void register(long queueId, Timeline timeline) {
    timelines.put(queueId, timeline);
    DeviceLostException gone = lost.get();
    if (gone != null) {
      timeline.end(gone); // lose() may have looked through the timelines before
    }
  }

  /** No more completions come, and nobody asks for failures. */
  void unregister(long queueId) {
    timelines.remove(queueId);
  }

  DeviceStream createStream(int index, long id) {
    try {
      DeviceStream stream = new DeviceStream(this, index, id);
      register(id, stream.timeline());
      return stream;
    } catch (DriverException e) {
      throw translate(e, "creating stream " + index);
    }
  }

  /** An executable's last user is gone. */
  void destroyed(Executable executable) {
    executables.remove(executable);
    graphs.release(executable.program());
  }

  private void destroyExecutable(long handle) {
    try {
      driver.destroyExecutable(handle);
    } catch (DriverException e) {
      log(Level.ERROR, "the driver kept an executable", e);
    }
  }

  /** Housekeeping, now and then, on the completion thread. Never waits. */
  void tick() {
    allocator.tick();
    allocator.reportLeaks();
    streams.all().forEach(DeviceStream::commitIfStale);
    hostEvents.tick();
    streams.dropUnused();
    encodeGate.settle();
  }

  /**
   * The device is gone, or nobody tells what it does: every present and later wait fails at once,
   * and so does every use. The first cause counts.
   */
  void lose(Throwable why) {
    DeviceLostException gone = new DeviceLostException("the device is lost", why);
    if (lost.compareAndSet(null, gone)) {
      timelines.values().forEach(timeline -> timeline.end(gone));
    }
  }

  /** What a user is told when the driver refuses a call. */
  MetalStreamsException translate(DriverException refused, String doing) {
    if (isClosed()) {
      return closed(); // the driver refuses because it is, or is about to be, closed as well
    }
    if (refused.status() == Status.DEVICE_LOST) {
      lose(refused);
      return new DeviceLostException(doing + ": " + refused.getMessage(), refused);
    }
    String message = doing + ": " + refused.getMessage();
    return refused.status() == Status.OUT_OF_MEMORY
        ? new OutOfDeviceMemoryException(message, refused)
        : new MetalStreamsException(message, refused);
  }

  void log(Level level, String message, @Nullable Throwable cause) {
    if (cause == null) {
      LOGGER.log(level, message);
    } else {
      LOGGER.log(level, message, cause);
    }
  }

  /** A time to wait, in nanoseconds; a time too long for a long is as good as the longest. */
  static long nanos(Duration timeout) {
    Objects.requireNonNull(timeout, "timeout");
    if (timeout.isNegative()) {
      throw new IllegalArgumentException("a time to wait is not negative: " + timeout);
    }
    try {
      return timeout.toNanos();
    } catch (ArithmeticException e) {
      return Long.MAX_VALUE;
    }
  }

  @Override
  public String toString() {
    return info.backend() + " device " + info.name();
  }

  /**
   * Settings of one device; what is not set here comes from system properties, environment and
   * defaults.
   */
  public static final class Builder {
    private final Map<Settings.Key, String> values = new EnumMap<>(Settings.Key.class);
    private @Nullable DriverProvider provider;
    private Parts parts = new Parts();

    private Builder() {}

    /** {@code auto}, {@code host} or {@code metal}. */
    public Builder backend(String backend) {
      return set(Settings.Key.BACKEND, Objects.requireNonNull(backend, "backend"));
    }

    /** A native library instead of the packed one. */
    public Builder libraryPath(Path path) {
      return set(Settings.Key.LIBRARY, Objects.requireNonNull(path, "path").toString());
    }

    /** Streams in the pool, 1 to 1024. */
    public Builder poolSize(int size) {
      return set(Settings.Key.POOL_SIZE, Integer.toString(size));
    }

    /** What a lease does when no stream is free. */
    public Builder exhaustion(Exhaustion policy) {
      return set(Settings.Key.POOL_EXHAUSTION, name(Objects.requireNonNull(policy, "policy")));
    }

    /** Longest wait for a lease under {@link Exhaustion#TIMEOUT}. */
    public Builder exhaustionTimeout(Duration timeout) {
      return set(Settings.Key.POOL_TIMEOUT, millis(timeout));
    }

    /** Uncompleted command buffers of a stream before encoding waits, 1 to 60. */
    public Builder maxInFlight(int buffers) {
      return set(Settings.Key.MAX_IN_FLIGHT, Integer.toString(buffers));
    }

    /** How long a wait without a time of its own goes on without progress; zero for ever. */
    public Builder watchdog(Duration time) {
      return set(Settings.Key.WATCHDOG, millis(time));
    }

    /** Longest wait of {@link Device#close} for work under way. */
    public Builder closeTimeout(Duration timeout) {
      return set(Settings.Key.CLOSE_TIMEOUT, millis(timeout));
    }

    /** Host backend: threads that execute work, 0 for one per CPU. */
    public Builder workers(int workers) {
      return set(Settings.Key.HOST_WORKERS, Integer.toString(workers));
    }

    /** Host backend: {@code auto}, {@code builtin}, or the path of a CBLAS library. */
    public Builder mathLibrary(String library) {
      return set(Settings.Key.HOST_MATH, Objects.requireNonNull(library, "library"));
    }

    /**
     * Parts of the recommended working set: from which cached memory is trimmed, and which is never
     * exceeded. From 0 to 2; 0 for no limit.
     */
    public Builder memoryRatios(double soft, double hard) {
      set(Settings.Key.SOFT_RATIO, Double.toString(soft));
      return set(Settings.Key.HARD_RATIO, Double.toString(hard));
    }

    /** Whether an allocation under pressure takes another stream's cached memory. */
    public Builder steal(StealPolicy policy) {
      return set(Settings.Key.STEAL, name(Objects.requireNonNull(policy, "policy")));
    }

    /** What becomes of memory that is closed. */
    public Builder memoryMode(MemoryMode mode) {
      return set(Settings.Key.MEMORY_MODE, name(Objects.requireNonNull(mode, "mode")));
    }

    /** How closely dropped buffers are looked at. */
    public Builder leaks(LeakLevel level) {
      return set(Settings.Key.LEAKS, name(Objects.requireNonNull(level, "level")));
    }

    /** Memory events kept for {@link DeviceMemory#history}, 0 to 1000000. */
    public Builder memoryHistory(int events) {
      return set(Settings.Key.HISTORY, Integer.toString(events));
    }

    /** Compiled graphs that are kept for reuse, 0 to 100000. */
    public Builder graphCacheSize(int graphs) {
      return set(Settings.Key.GRAPH_CACHE, Integer.toString(graphs));
    }

    /** Whether races between streams, or stream and CPU, are looked for, or ordered. */
    public Builder hazards(HazardMode mode) {
      return set(Settings.Key.HAZARDS, name(Objects.requireNonNull(mode, "mode")));
    }

    /** How a race is reported. */
    public Builder hazardReport(HazardReport report) {
      return set(Settings.Key.HAZARD_REPORT, name(Objects.requireNonNull(report, "report")));
    }

    /**
     * After the first 1000 operations of a stream, one in so many has its call site looked up for
     * reports of races, 1 to 1000000. To look is dearer than all else that the detector does.
     */
    public Builder hazardSample(int operations) {
      return set(Settings.Key.HAZARD_SAMPLE, Integer.toString(operations));
    }

    /** Metal: commit and continue on all streams, or on none. By default, on stream 0 alone. */
    public Builder commitAndContinue(boolean all) {
      return set(Settings.Key.COMMIT_AND_CONTINUE, all ? "1" : "0");
    }

    /** Checks the lock order at run time. */
    public Builder debug(boolean debug) {
      return set(Settings.Key.DEBUG, debug ? "1" : "0");
    }

    /** A driver of one's own instead of the native one. */
    public Builder driver(DriverProvider provider) {
      this.provider = Objects.requireNonNull(provider, "provider");
      return this;
    }

    Builder parts(Parts replaced) {
      this.parts = replaced;
      return this;
    }

    /** Sets what has no method of its own. */
    Builder set(Settings.Key key, String value) {
      values.put(key, value);
      return this;
    }

    private static String name(Enum<?> constant) {
      return constant.name().toLowerCase(Locale.ROOT);
    }

    private static String millis(Duration duration) {
      Objects.requireNonNull(duration, "duration");
      try {
        return Long.toString(duration.toMillis());
      } catch (ArithmeticException e) {
        return duration.toString(); // refused with the setting's name, like other times too long
      }
    }

    /**
     * Opens the device.
     *
     * @throws DeviceUnavailableException if there is none; the message says why and what to do
     * @throws IllegalArgumentException if a setting is malformed; the message names it
     */
    public Device open() {
      Settings settings = Settings.resolve(values, System::getProperty, System::getenv);
      DriverProvider found = provider != null ? provider : installed();
      Driver driver;
      try {
        driver =
            found.open(
                new DriverOptions(
                    settings.backend,
                    settings.library,
                    settings.hostWorkers,
                    settings.hostMath,
                    settings.flags));
      } catch (DriverException e) {
        throw new DeviceUnavailableException(String.valueOf(e.getMessage()), e);
      }
      try {
        Device device = new Device(settings, parts, driver);
        if (parts.completionThread()) {
          device.completions.start();
        }
        return device;
      } catch (RuntimeException | Error e) {
        driver.close();
        throw e;
      }
    }

    private static DriverProvider installed() {
      return ServiceLoader.load(DriverProvider.class, Device.class.getClassLoader())
          .findFirst()
          .orElseThrow(
              () ->
                  new DeviceUnavailableException(
                      "no driver found: add metalstreams-bindings to the class path or module"
                          + " path"));
    }
  }
}
