package dev.metalstreams;

import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A queue of work on the device: what is encoded on one stream runs in that order, asynchronously
 * to the caller.
 *
 * <p><b>Thread-safety.</b> Any thread may use any stream; two threads on one stream are safe, and
 * their operations run in the order in which they got the stream's lock.
 *
 * <p><b>Blocking.</b> Encoding never waits for the device, with one exception: when {@code
 * stream.max.in.flight} command buffers are under way, it waits, without a lock, for the oldest.
 *
 * <p><b>Commits.</b> Operations are gathered in an open command buffer. It is committed by {@link
 * #flush}, by every wait for its work, when it is large enough, and from its second operation on
 * whenever the device has nothing else of this stream to do; so a lone operation that is waited for
 * at once costs one submission, and a long row keeps the device busy. On the host backend, where a
 * thread that waits runs the work itself, the last does not apply.
 *
 * <p>A stream lives as long as its device.
 */
public final class DeviceStream {
  // Invariants, all under `lock`:
  //  - `open` says that the driver has an open command buffer, and its value is
  // timeline.submitted() + 1;
  //  - a value is taken (timeline.submitted) in the same critical section as the commit that the
  // driver accepted;
  //  - `queued` is the value that everything encoded so far will have reached;
  //  - `openWaits` are the events that the open command buffer waits for, or will: the first
  // `encodedWaits` of them are encoded; their queues are held until it is committed;
  //  - `owed` says that the work at `queued` was cancelled and a command buffer with nothing but
  // those waits is still to be committed in its place, before anything else: what was noted as
  // used at that value must be let go;
  //  - `stamp`, where races are looked for, changes after what it counts is encoded;
  // `openClaims` are the claims, oldest first, that a cancellation takes back.
  // Nothing waits for the device and no other stream is called while `lock` is held (LockOrder
  // checks that when asked to).

  /** What a layer norm counts its rows and columns with. */
  private static final long MAX_LAYER_NORM = 0xffff_ffffL;

  private final Device device;
  private final int index;
  private final long id;
  private final String name;
  private final Driver driver;
  private final long queue;
  private final Timeline timeline;
  private final StreamCache cache;
  private final @Nullable Hazards hazards;
  private final int maxInFlight;
  private final int commitOperations;
  private final long commitBytes;

  /** From how many operations on an idle device is given what there is. */
  private final int earlyOperations;

  private final long commitIdleNanos;
  private final int commitFlags;
  private final EncodeGate gate;

  private final ReentrantLock lock = new ReentrantLock();
  private Arguments arguments;
  private final List<DeviceEvent> openWaits = new ArrayList<>();
  private final List<Operation> openClaims = new ArrayList<>();
  private int encodedWaits;
  private boolean open;
  private boolean owed;
  private int openOperations;
  private long openBytes;
  private boolean closed;
  private volatile long queued;
  private volatile @Nullable Stamp stamp; // null while races are not looked for

  /** Whether the gate counts it; see {@link StreamPool}. */
  private final AtomicBoolean live = new AtomicBoolean();

  // Of the completion thread alone.
  private long staleValue;
  private long staleSince;

  DeviceStream(Device device, int index, long id) {
    Settings settings = device.settings();
    this.device = device;
    this.index = index;
    this.id = id;
    this.name = "stream " + index;
    this.driver = device.driver();
    this.hazards = device.detector();
    this.stamp = hazards == null ? null : new Stamp(index, 0, Clock.ZERO);
    this.maxInFlight = Math.min(settings.maxInFlight, device.info().maxInFlight());
    this.commitOperations = settings.commitOperations;
    this.commitBytes = settings.commitBytes;
    // Where a thread that waits runs the work itself, waking another would cost it more than that.
    this.earlyOperations = driver.awaitHelps() ? Integer.MAX_VALUE : 2;
    this.commitIdleNanos = settings.commitIdle.toNanos();
    this.commitFlags =
        settings.commitAndContinue.includes(index) ? Driver.COMMIT_CONTINUE : Driver.COMMIT_DEFAULT;
    this.gate = device.encodeGate();
    this.arguments = driver.newArguments(16);
    this.queue = driver.createQueue(id, name, maxInFlight);
    this.timeline =
        device
            .parts()
            .timeline(
                driver,
                queue,
                name,
                index,
                settings.watchdog.toNanos(),
                new Polling(settings.poll.toNanos()));
    this.cache = device.allocator().open(this);
  }

  /** Position in the pool: 0 for the owner thread's stream. */
  public int index() {
    return index;
  }

  /** Never reused within a device. */
  public long id() {
    return id;
  }

  /** The device this stream belongs to. */
  public Device device() {
    return device;
  }

  // ---- work

  /**
   * Sets every byte of a buffer.
   *
   * @throws IllegalStateException if the buffer is closed
   */
  public void fill(DeviceBuffer buffer, byte value) {
    fill(buffer, 0, Objects.requireNonNull(buffer, "buffer").byteSize(), value);
  }

  /**
   * Sets {@code length} bytes from {@code offset}; a length of 0 does nothing.
   *
   * @throws IndexOutOfBoundsException if the range is not within the buffer
   * @throws IllegalStateException if the buffer is closed
   * @throws StreamFailedException if this stream has failed
   */
  public void fill(DeviceBuffer buffer, long offset, long length, byte value) {
    Objects.requireNonNull(buffer, "buffer");
    Objects.checkFromIndexSize(offset, length, buffer.byteSize());
    buffer.acquire(device);
    try {
      if (length == 0) {
        return;
      }
      follow(buffer);
      Operation operation =
          hazards == null
              ? null
              : hazards.operation("fill", 1, this).writes(buffer, offset, length);
      long at = begin(operation);
      try {
        driver.encodeFill(queue, at, buffer.handle(), offset, length, value);
        buffer.usedBy(this, at);
        encoded(length, operation);
      } catch (DriverException e) {
        throw device.translate(e, name);
      } finally {
        end(operation);
      }
    } finally {
      buffer.release();
    }
  }

  /**
   * Copies bytes between buffers, or between ranges of one that do not overlap; a length of 0 does
   * nothing.
   *
   * @throws IndexOutOfBoundsException if a range is not within its buffer
   * @throws IllegalArgumentException if both ranges are of one buffer and overlap
   * @throws IllegalStateException if a buffer is closed
   * @throws StreamFailedException if this stream has failed
   */
  public void copy(
      DeviceBuffer source, long sourceOffset, DeviceBuffer target, long targetOffset, long length) {
    Objects.requireNonNull(source, "source");
    Objects.requireNonNull(target, "target");
    Objects.checkFromIndexSize(sourceOffset, length, source.byteSize());
    Objects.checkFromIndexSize(targetOffset, length, target.byteSize());
    if (source == target && Math.abs(sourceOffset - targetOffset) < length) {
      throw new IllegalArgumentException(
          "ranges of one buffer overlap: "
              + length
              + " bytes from "
              + sourceOffset
              + " to "
              + targetOffset);
    }
    source.acquire(device);
    try {
      target.acquire(device);
      try {
        if (length == 0) {
          return;
        }
        follow(source);
        follow(target);
        Operation operation =
            hazards == null
                ? null
                : hazards
                    .operation("copy", 2, this)
                    .reads(source, sourceOffset, length)
                    .writes(target, targetOffset, length);
        long at = begin(operation);
        try {
          driver.encodeCopy(
              queue, at, source.handle(), sourceOffset, target.handle(), targetOffset, length);
          source.usedBy(this, at);
          target.usedBy(this, at);
          encoded(length, operation);
        } catch (DriverException e) {
          throw device.translate(e, name);
        } finally {
          end(operation);
        }
      } finally {
        target.release();
      }
    } finally {
      source.release();
    }
  }

  /** Encodes an executable on tensors that the caller has checked and acquired. */
  void execute(long executable, String called, List<Tensor> inputs, List<Tensor> outputs) {
    int count = inputs.size() + outputs.size();
    for (int i = 0; i < inputs.size(); i++) {
      follow(inputs.get(i).buffer());
    }
    for (int i = 0; i < outputs.size(); i++) {
      follow(outputs.get(i).buffer());
    }
    Operation operation =
        hazards == null
            ? null
            : hazards.operation(called, count, this).reads(inputs).writes(outputs);
    long at = begin(operation);
    try {
      if (arguments.capacity() < count) {
        arguments = driver.newArguments(Math.max(count, 2 * arguments.capacity()));
      }
      int slot = 0;
      for (int i = 0; i < inputs.size(); i++) {
        arguments.set(slot++, inputs.get(i).buffer().handle());
      }
      for (int i = 0; i < outputs.size(); i++) {
        arguments.set(slot++, outputs.get(i).buffer().handle());
      }
      encode(at, executable, count);
      long bytes = 0;
      for (int i = 0; i < inputs.size(); i++) {
        bytes += inputs.get(i).buffer().usedBy(this, at);
      }
      for (int i = 0; i < outputs.size(); i++) {
        bytes += outputs.get(i).buffer().usedBy(this, at);
      }
      encoded(bytes, operation);
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      end(operation);
    }
  }

  /** Passes the call on, and tells the driver whether it is alone. The lock is held. */
  private void encode(long value, long executable, int count) {
    if (index > 0) {
      comesAlive(); // someone without a lease has taken a stream that no thread has as its own
    }
    int found = gate.enter();
    try {
      driver.encodeExecutable(
          queue,
          value,
          executable,
          arguments,
          count,
          found == EncodeGate.SOLE ? Driver.ENCODE_SOLE : Driver.ENCODE_DEFAULT);
    } finally {
      gate.leave(found);
    }
  }

  /** The gate counts this worker stream from now on. */
  void comesAlive() {
    if (!live.get() && live.compareAndSet(false, true)) {
      gate.arrived();
    }
  }

  /** It does not any more. */
  void isLeft() {
    if (live.compareAndSet(true, false)) {
      gate.departed();
    }
  }

  boolean isLive() {
    return live.get();
  }

  /** Whether nobody is encoding on it just now. Does not wait. */
  boolean isFree() {
    boolean free = lock.tryLock();
    if (free) {
      lock.unlock();
    }
    return free;
  }

  /**
   * Normalises the rows of a tensor into another one, without a graph: {@code y = (x - mean) /
   * √(variance + eps) · gamma + beta} along the last axis, with the biased variance, taken in a
   * second pass. On Metal this is a compute kernel, encoded as {@code metal.parallel.compute} says.
   *
   * @param x F32, of one axis at least, with at most 2³² - 1 rows and columns
   * @param gamma F32 {@code [N]}, N the last extent of x
   * @param beta F32 {@code [N]}
   * @param eps finite, not negative
   * @param y F32, of the shape of x; none of the other tensors
   * @throws IllegalArgumentException if a type, shape or device or eps is wrong, or y is an input
   * @throws IllegalStateException if a tensor is closed
   * @throws StreamFailedException if this stream has failed
   */
  public void layerNorm(Tensor x, Tensor gamma, Tensor beta, float eps, Tensor y) {
    checkLayerNorm(x, gamma, beta, eps, y);
    int held = 0;
    try {
      x.buffer().acquire(device);
      held++;
      gamma.buffer().acquire(device);
      held++;
      beta.buffer().acquire(device);
      held++;
      y.buffer().acquire(device);
      held++;
      follow(x.buffer());
      follow(gamma.buffer());
      follow(beta.buffer());
      follow(y.buffer());
      encodeLayerNorm(x, gamma, beta, eps, y);
    } finally {
      if (held > 3) {
        y.buffer().release();
      }
      if (held > 2) {
        beta.buffer().release();
      }
      if (held > 1) {
        gamma.buffer().release();
      }
      if (held > 0) {
        x.buffer().release();
      }
    }
  }

  private void encodeLayerNorm(Tensor x, Tensor gamma, Tensor beta, float eps, Tensor y) {
    long columns = gamma.elements();
    Operation operation =
        hazards == null
            ? null
            : hazards.operation("layerNorm", 4, this).reads(x).reads(gamma).reads(beta).writes(y);
    long at = begin(operation);
    try {
      driver.encodeLayerNorm(
          queue,
          at,
          x.buffer().handle(),
          gamma.buffer().handle(),
          beta.buffer().handle(),
          y.buffer().handle(),
          x.elements() / columns,
          columns,
          eps);
      encoded(
          x.buffer().usedBy(this, at)
              + gamma.buffer().usedBy(this, at)
              + beta.buffer().usedBy(this, at)
              + y.buffer().usedBy(this, at),
          operation);
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      end(operation);
    }
  }

  private static void checkLayerNorm(Tensor x, Tensor gamma, Tensor beta, float eps, Tensor y) {
    Objects.requireNonNull(x, "x");
    Objects.requireNonNull(gamma, "gamma");
    Objects.requireNonNull(beta, "beta");
    Objects.requireNonNull(y, "y");
    if (!(eps >= 0) || Float.isInfinite(eps)) {
      throw new IllegalArgumentException("eps is finite and not negative, not " + eps);
    }
    if (x.type() != DType.F32 || x.extents().rank() == 0) {
      throw new IllegalArgumentException("x has F32 elements and a last axis, not " + x);
    }
    long columns = x.extents().extent(-1);
    checkParameter("gamma", gamma, columns);
    checkParameter("beta", beta, columns);
    if (y.type() != DType.F32 || !y.extents().equals(x.extents())) {
      throw new IllegalArgumentException(
          "y is F32 " + x.extents() + ", not " + y.type() + " " + y.extents());
    }
    if (y.buffer() == x.buffer() || y.buffer() == gamma.buffer() || y.buffer() == beta.buffer()) {
      throw new IllegalArgumentException("y is also an input");
    }
    if (columns > MAX_LAYER_NORM || x.elements() / columns > MAX_LAYER_NORM) {
      throw new IllegalArgumentException(
          "at most " + MAX_LAYER_NORM + " rows and columns, not " + x.extents());
    }
  }

  private static void checkParameter(String name, Tensor tensor, long columns) {
    Shape shape = tensor.extents();
    if (tensor.type() != DType.F32 || shape.rank() != 1 || shape.extent(0) != columns) {
      throw new IllegalArgumentException(
          name + " is F32 [" + columns + "], not " + tensor.type() + " " + shape);
    }
  }

  /**
   * Makes work encoded after this wait, on the device, for an event of another stream or of the
   * host. Returns at once. The other stream is flushed if the event's work is not submitted yet. An
   * event of this stream, or one that has passed, costs nothing.
   *
   * @throws StreamFailedException if the event's work is known to have failed; if it fails later,
   *     this stream fails too
   * @throws IllegalArgumentException if the event belongs to another device
   */
  public void waitFor(DeviceEvent event) {
    Objects.requireNonNull(event, "event");
    if (event.device() != device) {
      throw new IllegalArgumentException("the event belongs to another device");
    }
    if (!event.isOfHost() && event.stream() == this) {
      return;
    }
    event.submit();
    event.timeline().throwIfFailed(event.value());
    if (follow(event)) {
      // It may have failed since the look above, and nothing on the device tells of that.
      event.timeline().throwIfFailed(event.value());
    }
    device.checkOpen();
  }

  /**
   * Work encoded after this begins once the event is complete, whatever became of it. True if that
   * is so already, and there is no wait on the device.
   */
  private boolean follow(DeviceEvent event) {
    event.submit(); // the other stream's lock is taken and given back before ours
    Timeline awaited = event.timeline();
    // A queue that cannot be held was given back, after all of it had been completed.
    if (awaited.reached(event.value()) || !awaited.holdQueue()) {
      if (hazards != null) { // that it has passed was luck
        lock();
        comesAfter(event);
        unlock();
      }
      return true;
    }
    boolean kept = false;
    try {
      long at = begin();
      try {
        driver.encodeWait(queue, at, awaited.queue(), event.value());
        openWaits.add(event.point());
        kept = true;
        encodedWaits++;
        if (event.isOfHost()) {
          timeline.waitsForHost(at, event.point());
        }
        encoded(0, null);
        comesAfter(event);
      } catch (DriverException e) {
        throw device.translate(e, name);
      } finally {
        unlock();
      }
    } finally {
      if (!kept) {
        awaited.releaseQueue();
      }
    }
    return false;
  }

  /** What is encoded from now on comes after an event. The lock is held. */
  private void comesAfter(DeviceEvent event) {
    Stamp now = stamp;
    Stamp awaited = event.stamp();
    if (hazards != null && now != null && awaited != null) {
      stamp = now.with(hazards.after(now.clock(), awaited));
    }
  }

  /**
   * Work on a recycled block comes after that of its last tenant. On the block's own stream that is
   * so by itself; another stream has to wait, on the device, for what is left.
   */
  void follow(DeviceBuffer buffer) {
    DeviceStream owner = buffer.stream();
    if (owner != this) {
      long inherited = device.allocator().inherited(buffer.tenancy().block.uses);
      if (owner.timeline.completed() < inherited && !owner.timeline.reached(inherited)) {
        follow(new DeviceEvent(owner, inherited));
      }
    }
  }

  // ---- events

  /**
   * An event that is complete when everything encoded on this stream so far is. Costs nothing on
   * the device.
   */
  public DeviceEvent record() {
    device.checkOpen();
    return here();
  }

  /** As {@link #record}, also on a closed device. */
  DeviceEvent here() {
    Stamp now = stamp; // first: `queued` then covers it
    return new DeviceEvent(this, queued, now);
  }

  /**
   * Like {@link #record}, and keeps the time at which the device completed it, for {@link
   * DeviceEvent#elapsed}. Commits.
   *
   * @throws StreamFailedException if this stream has failed
   */
  public DeviceEvent recordTimed() {
    long at = begin();
    try {
      DeviceEvent.Timed event = new DeviceEvent.Timed(this, at, stamp);
      timeline.time(at, event);
      commit(Driver.COMMIT_DEFAULT);
      return event;
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      unlock();
    }
  }

  // ---- submission

  /** Takes the lock, with a command buffer open in which the caller encodes; returns its value. */
  private long begin() {
    while (true) {
      long oldest;
      lock();
      boolean ready = false;
      try {
        if (closed) {
          throw new DeviceClosedException(name + " is closed with its device");
        }
        device.checkLost();
        StreamFailedException failure = timeline.current();
        if (failure != null) {
          throw failure.seenBy(name + " takes no work until reset");
        }
        if (owed) {
          open();
          commit(Driver.COMMIT_DEFAULT);
        }
        long submitted = timeline.submitted();
        oldest = submitted - maxInFlight + 1;
        if (!open && timeline.reached(oldest)) {
          open();
        }
        if (open) {
          ready = true;
          return submitted + 1;
        }
      } catch (DriverException e) {
        throw device.translate(e, name);
      } finally {
        if (!ready) {
          unlock();
        }
      }
      timeline.awaitReached(oldest, -1); // the lock is free meanwhile
    }
  }

  /**
   * As {@link #begin()}, with the memory of an operation claimed, if races are looked for. Under
   * {@link HazardMode#ORDER} encodes the waits that it lacks.
   */
  private long begin(@Nullable Operation operation) {
    while (true) {
      long at = begin();
      Stamp now = stamp;
      if (operation == null || now == null) {
        return at;
      }
      boolean claimed = false;
      DeviceEvent missing;
      try {
        missing = operation.claim(this, at, now);
        claimed = missing == null;
      } finally {
        if (!claimed) {
          unlock();
        }
      }
      if (missing == null) {
        return at;
      }
      order(missing);
    }
  }

  private void order(DeviceEvent missing) {
    DeviceStream other = missing.stream();
    other.flushTo(missing.value(), Driver.COMMIT_DEFAULT);
    if (other.timeline.submitted() >= missing.value()) { // else it was only claimed, and refused
      waitFor(missing);
      if (hazards != null) {
        hazards.waitAdded();
      }
    }
  }

  /** Gives the lock back, and what an operation has claimed if it was not encoded. */
  private void end(@Nullable Operation operation) {
    if (operation != null) {
      operation.retract();
    }
    unlock();
  }

  /** Waits until whoever has the lock has given it back. */
  void pass() {
    lock();
    unlock();
  }

  /** Opens a command buffer if none is, with the waits that it has to begin with. Lock held. */
  private void open() {
    if (!open) {
      driver.begin(queue, timeline.submitted() + 1);
      open = true;
    }
    for (; encodedWaits < openWaits.size(); encodedWaits++) {
      DeviceEvent event = openWaits.get(encodedWaits);
      driver.encodeWait(queue, timeline.submitted() + 1, event.timeline().queue(), event.value());
    }
  }

  /** One more operation stands in the open command buffer; commits it if it is time. */
  private void encoded(long bytes, @Nullable Operation operation) {
    openOperations++;
    openBytes += bytes;
    queued = timeline.submitted() + 1;
    boolean full = openOperations >= commitOperations || openBytes >= commitBytes;
    boolean idle =
        openOperations >= earlyOperations && timeline.completed() == timeline.submitted();
    if (full || idle) {
      try {
        commit(Driver.COMMIT_DEFAULT);
      } catch (DriverException e) {
        // The operation is encoded and this commit was only early. The next flush or wait tries
        // again and reports.
        device.log(System.Logger.Level.DEBUG, "early commit refused on " + name, e);
      }
    }
    if (operation != null) {
      stamp = operation.settle();
      if (open) {
        openClaims.add(operation);
      } else {
        operation.keep();
      }
    }
  }

  /** Commits the open command buffer. The lock is held. */
  private void commit(int flags) {
    long value = timeline.submitted() + 1;
    driver.commit(queue, value, flags | commitFlags);
    timeline.submitted(value);
    queued = value;
    open = false;
    owed = false;
    openOperations = 0;
    openBytes = 0;
    letGoOfWaits();
  }

  private void letGoOfWaits() {
    for (int i = 0; i < openWaits.size(); i++) {
      openWaits.get(i).timeline().releaseQueue();
    }
    openWaits.clear();
    encodedWaits = 0;
    openClaims.forEach(Operation::keep);
    openClaims.clear();
  }

  /** Submits what has been encoded, and returns at once. */
  public void flush() {
    device.checkOpen();
    flushTo(queued, Driver.COMMIT_DEFAULT);
  }

  /** Makes sure that a value returned by {@link #queued} is submitted. */
  void flushTo(long value, int flags) {
    if (timeline.submitted() >= value) {
      return;
    }
    lock();
    try {
      if (timeline.submitted() < value && (open || owed)) {
        open();
        commit(flags);
      }
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      unlock();
    }
  }

  /**
   * Submits what was encoded a while ago and that nobody has waited for or followed up. Called by
   * the completion thread, who does not wait for the lock: its holder is about to do the same.
   */
  void commitIfStale() {
    long value = queued;
    if (commitIdleNanos == 0 || timeline.submitted() >= value) {
      return;
    }
    long now = System.nanoTime();
    if (value != staleValue) {
      staleValue = value;
      staleSince = now;
    } else if (now - staleSince >= commitIdleNanos && lock.tryLock()) {
      try {
        if (owed || (open && openOperations > 0)) {
          open();
          commit(Driver.COMMIT_DEFAULT);
        }
      } catch (DriverException e) {
        device.log(System.Logger.Level.DEBUG, "idle commit refused on " + name, e);
      } finally {
        lock.unlock();
      }
    }
  }

  /** The value that everything encoded so far will have reached. Never blocks, takes no lock. */
  long queued() {
    return queued;
  }

  Timeline timeline() {
    return timeline;
  }

  /** The device's race detector, if there is one. */
  @Nullable Hazards hazards() {
    return hazards;
  }

  /** How many operations were encoded, if races are looked for. */
  long position() {
    Stamp now = stamp;
    return now == null ? 0 : now.position();
  }

  StreamCache cache() {
    return cache;
  }

  /** As messages call it. */
  String label() {
    return name;
  }

  // ---- waiting

  /** Submits and waits for an event of this stream; throws if its work failed. */
  void await(DeviceEvent event, long timeoutNanos) {
    await(event, timeoutNanos, false);
  }

  /** A thread has seen that this moment is over. */
  void observed(@Nullable Stamp moment) {
    if (hazards != null) {
      hazards.observed(moment);
    }
  }

  /** The same; a failure that was reset before, or a cancellation, is no news and not thrown. */
  private void finish(DeviceEvent event, long timeoutNanos) {
    await(event, timeoutNanos, timeline.settled(event.value()));
  }

  /** The same, if it was settled when the caller was called. */
  void await(DeviceEvent event, long timeoutNanos, boolean settled) {
    awaitReached(event.value(), timeoutNanos);
    observed(event.stamp());
    if (!settled) {
      timeline.throwIfFailed(event.value());
    }
  }

  /** Submits and waits for a value of {@link #queued}, whether its work succeeds or not. */
  void awaitReached(long value, long timeoutNanos) {
    if (timeline.submitted() < value) {
      boolean helps = driver.canAwait() && timeoutNanos != 0 && !Thread.currentThread().isVirtual();
      flushTo(value, helps ? Driver.COMMIT_WAITING : Driver.COMMIT_DEFAULT);
    }
    timeline.awaitReached(value, timeoutNanos);
  }

  /**
   * Waits until everything that was encoded before this call is done, or cancelled.
   *
   * @throws StreamFailedException if any of it failed, unless the stream was reset since
   * @throws WaitTimeoutException if the stream makes no progress for the time of the setting {@code
   *     wait.watchdog.ms}
   */
  public void synchronize() {
    finish(record(), -1);
  }

  /**
   * Waits until everything that was encoded before this call is done, or cancelled, for at most a
   * time.
   *
   * @throws StreamFailedException if any of it failed, unless the stream was reset since
   * @throws WaitTimeoutException if the time runs out first
   */
  public void synchronize(Duration timeout) {
    long nanos = Device.nanos(timeout);
    finish(record(), nanos);
  }

  /** Whether everything encoded so far is done. Does not submit, never blocks. */
  public boolean query() {
    return here().query();
  }

  // ---- cancellation, failure and end

  /**
   * Cancels what was encoded on this stream, by any thread, and is not submitted yet: it will never
   * run. Returns at once. What was submitted before is not touched.
   *
   * <p>Memory that the cancelled work would have written keeps its content; who waits for that
   * work, or reads what it would have written, gets a {@link WorkCancelledException}. The stream
   * goes on: what is encoded later runs, after the events that this stream was made to wait for.
   *
   * @return how many operations were cancelled; 0 if all was submitted already
   */
  public int cancel() {
    device.checkOpen();
    lock();
    try {
      int cancelled = openOperations - openWaits.size();
      if (!open || cancelled == 0) {
        return 0;
      }
      long value = timeline.submitted() + 1;
      driver.discard(queue, value);
      open = false;
      openClaims.reversed().forEach(Operation::cancel); // nobody races with what never runs
      openClaims.clear();
      encodedWaits = 0;
      openOperations = openWaits.size();
      openBytes = 0;
      owed = true;
      timeline.cancelled(
          value,
          new WorkCancelledException(
              cancelled + " operations of " + name + " were cancelled at " + value));
      open();
      commit(Driver.COMMIT_DEFAULT);
      return cancelled;
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      unlock();
    }
  }

  /** The failure that keeps this stream from taking work, if there is one. */
  public Optional<StreamFailedException> failure() {
    return Optional.ofNullable(timeline.current());
  }

  /**
   * Makes a failed stream take work again. Waiters for the work that failed still learn so; but who
   * goes on to encode work that needs its results is no longer stopped. So a stream that threads
   * share is reset when all of them know. What the failed work was to wait for is over by then. A
   * healthy stream stays as it is.
   *
   * @throws IllegalStateException if work is under way
   */
  public void reset() {
    device.checkOpen();
    lock();
    try {
      if (timeline.current() == null) {
        return;
      }
      if (open && openOperations == 0) { // its only operation was refused
        driver.discard(queue, timeline.submitted() + 1);
        open = false;
      }
      if (open || owed || timeline.completed() < timeline.submitted()) {
        throw new IllegalStateException(
            name + " still has work under way: synchronize it before the reset");
      }
      driver.resetQueue(queue);
      timeline.reset();
      observed(stamp); // it was seen to be idle
    } catch (DriverException e) {
      throw device.translate(e, name);
    } finally {
      unlock();
    }
  }

  /** Takes no more work; submits what is open. Part of the device's close. */
  void close() {
    lock();
    try {
      closed = true;
      if (open || owed) {
        commitOrDrop();
      }
    } finally {
      unlock();
    }
  }

  private void commitOrDrop() {
    try {
      open();
      commit(Driver.COMMIT_DEFAULT);
    } catch (DriverException e) {
      device.log(System.Logger.Level.WARNING, name + ": the last commit was refused at close", e);
      try {
        driver.discard(queue, timeline.submitted() + 1); // it must not keep its buffers
      } catch (DriverException again) {
        device.log(System.Logger.Level.WARNING, name + " keeps what it was to submit last", again);
      }
      letGoOfWaits();
    }
  }

  private void lock() {
    LockOrder order = device.lockOrder();
    order.enter(LockOrder.STREAM);
    lock.lock();
  }

  private void unlock() {
    lock.unlock();
    device.lockOrder().exit(LockOrder.STREAM);
  }

  @Override
  public String toString() {
    return name + " of " + device + " " + timeline;
  }
}
