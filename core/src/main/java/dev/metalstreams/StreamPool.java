package dev.metalstreams;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The streams of a device, created when first used.
 *
 * <p><b>Which stream is current?</b> The one of the innermost {@link #callWith} around the call;
 * else the thread's own. A thread's own stream is assigned when it first asks: stream 0 to the
 * <em>owner thread</em>, which opened the device; to others streams 1, 2, … in turn. It stays the
 * thread's until {@link #setCurrent} or {@link #releaseCurrentThread}.
 *
 * <p><b>Sharing.</b> When there are more threads than streams, streams are shared: an ordering,
 * never an error. A thread that must not share takes a {@linkplain #lease() lease}. While all other
 * streams are leased, new threads share stream 0.
 *
 * <p><b>Failures.</b> A stream that has failed is passed over while there are others: neither new
 * threads nor leases get it. Its own threads keep it, for {@link DeviceStream#reset} is theirs to
 * call: whoever goes on after a failure has to know of it.
 *
 * <p>Virtual threads are threads like any other here; nothing is kept per carrier.
 */
public final class StreamPool {
  // Invariants, under `lock`:
  //  - a stream that is leased has no live thread bound to it, and no thread is bound to it
  // meanwhile;
  //  - `bound[i]` holds every live thread whose own stream is i. There is no call-back at a
  // thread's end, so dead threads are
  //    dropped when the list is next looked at: many short-lived threads leave nothing behind;
  //  - a worker stream (not 0) that is leased or has a live thread is live, for the encode gate; so
  //    is one on which an executable was encoded without either, until a look finds that it was not
  //    used since the last one. Nobody tells of the end of a thread: its stream is live until the
  //    next look, by the completion thread's housekeeping.

  /** How often a waiting lease looks for threads that have died: nobody tells of their end. */
  private static final long LOOK_FOR_DEAD_NANOS = TimeUnit.MILLISECONDS.toNanos(20);

  private final Device device;
  private final int size;
  private final long ownerThread;
  private final Exhaustion defaultPolicy;
  private final Duration defaultTimeout;

  private final AtomicReferenceArray<@Nullable DeviceStream> streams;
  private final ScopedValue<DeviceStream> scoped = ScopedValue.newInstance();

  /**
   * Whether {@link #scoped} may be bound: to look in vain costs a quarter of {@link #current}. Set
   * by the thread that begins the first scope, before; so whoever is in a scope, begun or
   * inherited, sees it without further ado.
   */
  private boolean hasScopes;

  @SuppressWarnings("ThreadLocalUsage") // one per pool: a thread has a stream of each device
  private final ThreadLocal<@Nullable DeviceStream> own = new ThreadLocal<>();

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition freed = lock.newCondition();
  private final List<List<WeakReference<Thread>>> bound = new ArrayList<>();
  private final boolean[] leased;

  /** What was encoded on each stream at the last look. */
  private final long[] lastQueued;

  private int turn;
  private long nextId = 1;
  private boolean closed;

  StreamPool(Device device, Settings settings) {
    this.device = device;
    this.size = settings.poolSize;
    this.ownerThread = Thread.currentThread().threadId();
    this.defaultPolicy = settings.exhaustion;
    this.defaultTimeout = settings.exhaustionTimeout;
    this.streams = new AtomicReferenceArray<>(size);
    this.leased = new boolean[size];
    this.lastQueued = new long[size];
    for (int i = 0; i < size; i++) {
      bound.add(new ArrayList<>(0));
    }
  }

  /** How many streams there can be. */
  public int size() {
    return size;
  }

  /** How many streams have been created so far. */
  public int created() {
    int count = 0;
    for (int i = 0; i < size; i++) {
      if (streams.get(i) != null) {
        count++;
      }
    }
    return count;
  }

  /**
   * The current stream of the calling thread; assigns one if it has none.
   *
   * @throws DeviceClosedException if the device is closed
   */
  public DeviceStream current() {
    device.checkOpen();
    if (hasScopes && scoped.isBound()) {
      return scoped.get();
    }
    DeviceStream mine = own.get();
    return mine != null ? mine : assign();
  }

  /**
   * The stream at an index.
   *
   * @throws IndexOutOfBoundsException if there is none
   */
  public DeviceStream stream(int index) {
    Objects.checkIndex(index, size);
    DeviceStream stream = streams.get(index);
    return stream != null ? stream : create(index);
  }

  /** The next stream in turn, without making it anyone's. Two calls may give the same stream. */
  public DeviceStream next() {
    int index;
    lock();
    try {
      index = nextIndex();
    } finally {
      unlock();
    }
    return stream(index);
  }

  /**
   * Makes a stream the calling thread's own, in place of the one it had. An enclosing {@link
   * #callWith} goes on to win.
   *
   * @throws IllegalArgumentException if the stream belongs to another device
   * @throws IllegalStateException if the stream is leased, also by the calling thread: a lease
   *     ends, and the thread's own stream would outlive it. {@link #callWith} is for that
   */
  public void setCurrent(DeviceStream stream) {
    check(stream);
    lock();
    try {
      if (leased[stream.index()]) {
        throw new IllegalStateException(
            "stream " + stream.index() + " is leased and cannot be a thread's own; use callWith");
      }
      unbind();
      bind(stream);
    } finally {
      unlock();
    }
  }

  /**
   * Takes the calling thread's own stream away; the next {@link #current} assigns one anew. Nothing
   * is waited for.
   */
  public void releaseCurrentThread() {
    lock();
    try {
      unbind();
      freed.signalAll();
    } finally {
      unlock();
    }
  }

  /**
   * Runs something with a stream as the current one, in this thread and in threads forked by
   * structured concurrency within it. So what belongs together stays in one order, however many
   * threads it is spread over, and ends before this returns:
   *
   * <pre>{@code
   * pool.callWith(stream, () -> {
   *   try (var scope = StructuredTaskScope.open()) {
   *     var left = scope.fork(() -> encoder.run(x));  // on `stream`, as below
   *     var right = scope.fork(() -> encoder.run(y));
   *     scope.join();
   *     return head.run(left.get(), right.get());
   *   }
   * });
   * }</pre>
   *
   * The binding is a {@link ScopedValue}: it costs nothing to inherit, and ends with the scope. It
   * goes before the thread's own stream, and is not inherited by threads started in other ways.
   *
   * @throws IllegalArgumentException if the stream belongs to another device
   */
  public <T, X extends Throwable> T callWith(
      DeviceStream stream, ScopedValue.CallableOp<? extends T, X> work) throws X {
    check(stream);
    Objects.requireNonNull(work, "work");
    return scope(stream).<T, X>call(work);
  }

  /**
   * Runs something with a stream as the current one.
   *
   * @throws IllegalArgumentException if the stream belongs to another device
   */
  public void runWith(DeviceStream stream, Runnable work) {
    check(stream);
    Objects.requireNonNull(work, "work");
    scope(stream).run(work);
  }

  private ScopedValue.Carrier scope(DeviceStream stream) {
    if (!hasScopes) {
      hasScopes = true;
    }
    return ScopedValue.where(scoped, stream);
  }

  // ---- leases

  /** Takes a lease under the device's policy. */
  public Lease lease() {
    return lease(defaultPolicy, defaultTimeout);
  }

  /**
   * Takes a lease under a policy; {@link Exhaustion#TIMEOUT} waits as long as the device's setting
   * says.
   */
  public Lease lease(Exhaustion policy) {
    return lease(policy, defaultTimeout);
  }

  /**
   * Takes a stream that nobody else leases, no thread has as its own and none will be assigned,
   * until the lease is closed. Stream 0 is never leased.
   *
   * @param timeout longest wait under {@link Exhaustion#TIMEOUT}; not looked at otherwise
   * @throws StreamPoolExhaustedException if there is no such stream and the policy says so
   */
  public Lease lease(Exhaustion policy, Duration timeout) {
    Objects.requireNonNull(policy, "policy");
    long left = policy == Exhaustion.TIMEOUT ? Device.nanos(timeout) : Long.MAX_VALUE;
    device.checkOpen();
    int index;
    lock();
    try {
      index = lendable();
      while (index < 0 && policy != Exhaustion.OVERSUBSCRIBE) {
        if (policy == Exhaustion.FAIL || left <= 0) {
          throw exhausted(policy, timeout);
        }
        long slice = Math.min(left, LOOK_FOR_DEAD_NANOS);
        left -= slice - freed.awaitNanos(slice);
        index = lendable();
      }
      if (index >= 0) {
        leased[index] = true;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new WaitInterruptedException("interrupted while waiting for a stream to lease");
    } finally {
      unlock();
    }
    if (index < 0) {
      return new Lease(this, next(), false);
    }
    try {
      DeviceStream stream = stream(index);
      comesAlive(stream);
      return new Lease(this, stream, true);
    } catch (RuntimeException e) {
      giveBack(index); // the stream could not be made
      throw e;
    }
  }

  private StreamPoolExhaustedException exhausted(Exhaustion policy, Duration timeout) {
    int out = 0;
    for (boolean each : leased) {
      out += each ? 1 : 0;
    }
    return new StreamPoolExhaustedException(
        "no stream can be leased"
            + (policy == Exhaustion.TIMEOUT ? " within " + timeout.toMillis() + " ms" : "")
            + ": of "
            + Math.max(size - 1, 0)
            + " streams "
            + out
            + " are leased and the others are bound to live threads. Close leases, release threads,"
            + " or set a larger pool.size");
  }

  /** A stream that can be leased, one that has not failed if there is one, or -1. */
  private int lendable() {
    if (closed) {
      throw new DeviceClosedException("the device is closed");
    }
    int failed = -1;
    for (int i = 1; i < size; i++) {
      int index = 1 + (turn + i - 1) % (size - 1);
      if (!leased[index] && live(index).isEmpty()) {
        if (!hasFailed(index)) {
          return index;
        }
        failed = index;
      }
    }
    return failed;
  }

  void giveBack(int index) {
    lock();
    try {
      leased[index] = false;
      dropIfUnused(index);
      freed.signalAll();
    } finally {
      unlock();
    }
  }

  // ---- assignment

  private DeviceStream assign() {
    int index;
    lock();
    try {
      index = Thread.currentThread().threadId() == ownerThread ? 0 : nextIndex();
      DeviceStream existing = streams.get(index);
      if (existing != null) {
        bind(existing);
        return existing;
      }
      // Hold the place while the queue is made, outside this lock's critical work.
      live(index).add(new WeakReference<>(Thread.currentThread()));
    } finally {
      unlock();
    }
    try {
      DeviceStream stream = stream(index);
      comesAlive(stream);
      own.set(stream);
      return stream;
    } catch (RuntimeException e) {
      lock();
      try {
        dropFrom(index);
      } finally {
        unlock();
      }
      throw e;
    }
  }

  /**
   * Next of streams 1, 2, …, past those that are leased or have failed; a failed one if there is no
   * other; 0 if all are leased.
   */
  private int nextIndex() {
    int failed = 0;
    for (int i = 1; i < size; i++) {
      int index = 1 + turn;
      turn = (turn + 1) % (size - 1);
      if (!leased[index]) {
        if (!hasFailed(index)) {
          return index;
        }
        failed = index;
      }
    }
    return failed;
  }

  private boolean hasFailed(int index) {
    DeviceStream stream = streams.get(index);
    return stream != null && stream.timeline().current() != null;
  }

  private void bind(DeviceStream stream) {
    live(stream.index()).add(new WeakReference<>(Thread.currentThread()));
    if (stream.index() > 0 && !closed) {
      stream.comesAlive();
    }
    own.set(stream);
  }

  private void comesAlive(DeviceStream stream) {
    if (stream.index() > 0) {
      lock();
      try {
        if (!closed) { // or nobody would let it go again
          stream.comesAlive();
        }
      } finally {
        unlock();
      }
    }
  }

  private void unbind() {
    DeviceStream mine = own.get();
    if (mine != null) {
      dropFrom(mine.index());
      own.remove();
    }
  }

  private void dropFrom(int index) {
    Thread me = Thread.currentThread();
    bound.get(index).removeIf(each -> each.refersTo(me));
    dropIfUnused(index);
  }

  /**
   * A stream that nobody has is live no more. Should it be encoded on all the same, it is again.
   */
  private void dropIfUnused(int index) {
    DeviceStream stream = streams.get(index);
    if (stream != null && stream.isLive() && !leased[index] && live(index).isEmpty()) {
      stream.isLeft();
    }
  }

  /** Looks which streams are live no more: their threads have died, or their users went away. */
  void dropUnused() {
    lock();
    try {
      for (int i = 1; i < size; i++) {
        DeviceStream stream = streams.get(i);
        if (stream != null) {
          long queued = stream.queued();
          if (queued == lastQueued[i]) {
            dropIfUnused(i);
          }
          lastQueued[i] = queued;
        }
      }
    } finally {
      unlock();
    }
  }

  /** The streams are closed: nothing is encoded on them any more. */
  void leaveGate() {
    all().forEach(DeviceStream::isLeft);
    device.encodeGate().remove(this);
  }

  /** The live threads of a stream, after dropping the dead. */
  private List<WeakReference<Thread>> live(int index) {
    List<WeakReference<Thread>> threads = bound.get(index);
    threads.removeIf(
        each -> {
          Thread thread = each.get();
          return thread == null || !thread.isAlive();
        });
    return threads;
  }

  /** How many streams but the first have a live thread. */
  int liveBindings() {
    lock();
    try {
      int count = 0;
      for (int i = 1; i < size; i++) {
        count += live(i).isEmpty() ? 0 : 1;
      }
      return count;
    } finally {
      unlock();
    }
  }

  // ---- creation and end

  private DeviceStream create(int index) {
    lock();
    try {
      DeviceStream stream = streams.get(index);
      if (stream == null) {
        if (closed) {
          throw new DeviceClosedException("the device is closed");
        }
        device.checkOpen();
        stream = device.createStream(index, nextId);
        nextId++;
        streams.set(index, stream);
      }
      return stream;
    } finally {
      unlock();
    }
  }

  /** Creates no more streams and ends waits for leases; gives the streams that there are. */
  List<DeviceStream> close() {
    lock();
    try {
      closed = true;
      freed.signalAll();
      return all();
    } finally {
      unlock();
    }
  }

  /** The streams that have been created. */
  List<DeviceStream> all() {
    List<DeviceStream> all = new ArrayList<>();
    for (int i = 0; i < size; i++) {
      DeviceStream stream = streams.get(i);
      if (stream != null) {
        all.add(stream);
      }
    }
    return all;
  }

  private void check(DeviceStream stream) {
    if (Objects.requireNonNull(stream, "stream").device() != device) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
    device.checkOpen();
  }

  private void lock() {
    device.lockOrder().enter(LockOrder.REGISTRY);
    lock.lock();
  }

  private void unlock() {
    lock.unlock();
    device.lockOrder().exit(LockOrder.REGISTRY);
  }
}
