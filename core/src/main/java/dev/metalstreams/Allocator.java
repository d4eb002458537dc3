package dev.metalstreams;

import dev.metalstreams.MemoryEvent.Kind;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.Status;
import java.lang.System.Logger.Level;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.jspecify.annotations.Nullable;

/**
 * Hands out memory in stream order and takes it back when that is safe.
 *
 * <p>{@link Block} draws a block's life; {@link StreamCache} is the fast path, one for each stream;
 * this class is everything else: the way to the driver, pressure, and the rules.
 *
 * <h2>The rules</h2>
 *
 * <ol>
 *   <li>{@link #reusable}: a closed block may go to another user on its own stream when every
 *       <em>other</em> stream has passed its last use at the time of the close. Work of its own
 *       stream may be under way: the stream orders the next use after it.
 *   <li>{@link #unused}: a block may go to the driver, to the CPU or to another stream when
 *       <em>every</em> stream has passed.
 *   <li>{@link #awaitHostSafe}: the CPU gets memory only when it is unused, uses by the last tenant
 *       included.
 *   <li>{@link #inherited}: when another stream than the owner uses a block, its work comes after
 *       what the tenants before have left under way on the owner.
 * </ol>
 *
 * <p>Early reuse is thereby impossible, whatever the order in which streams complete: a block
 * leaves the hands of its user only through these tests, made on numbers that only grow.
 *
 * <h2>The way of an allocation</h2>
 *
 * Own cache → own pending blocks that are done → above the soft limit, another stream's cache, or
 * trimming of the oldest cached blocks → the driver, within the hard limit → {@link #insist}, which
 * gives up only when it has seen, with every exchange of memory with the driver at rest, that all
 * memory is in the hands of users. No lock is held while it waits for the device.
 */
class Allocator {
  /** How often an allocation waits for work of others before it leaves the memory to them. */
  private static final int MOST_WAITS = 1000;

  private final Device device;
  private final Driver driver;
  private final Settings settings;
  private final Ledger ledger;
  private final MemoryLog log;
  private final Leaks leaks;
  private final long softLimit;
  private final long hardLimit;

  /**
   * Shared by those who take memory from the driver or bring it back, from the moment when it
   * leaves the books on one side to that when it stands in those of the other. Who holds it alone
   * sees no memory on its way.
   */
  private final ReentrantReadWriteLock exchange = new ReentrantReadWriteLock();

  private final AtomicLong nextBlock = new AtomicLong(1);
  private final AtomicLong retries = new AtomicLong();
  private final AtomicLong outOfMemories = new AtomicLong();
  private final AtomicLong deviceAllocations = new AtomicLong();
  private final AtomicLong deviceFrees = new AtomicLong();
  private final AtomicLong steals = new AtomicLong();

  /** Of all streams; replaced under the monitor when a stream is created. */
  private volatile StreamCache[] caches = {};

  /**
   * Coarse time, moved by the completion thread: reading the real one would cost more than an
   * allocation.
   */
  private volatile long clock = System.nanoTime();

  Allocator(Device device) {
    this(device, new Ledger());
  }

  Allocator(Device device, Ledger ledger) {
    this.device = device;
    this.driver = device.driver();
    this.settings = device.settings();
    this.ledger = ledger;
    this.log = new MemoryLog(settings.memoryHistory);
    this.leaks = new Leaks(settings.leakLevel);
    long recommended = device.info().recommendedBytes();
    this.softLimit = limit(settings.softLimit, recommended);
    this.hardLimit = limit(settings.hardLimit, recommended);
  }

  private static long limit(double ratio, long recommended) {
    return ratio == 0 ? Long.MAX_VALUE : (long) (ratio * recommended);
  }

  /** Opens the cache of a new stream. */
  final synchronized StreamCache open(DeviceStream stream) {
    StreamCache cache = cache(stream);
    StreamCache[] now = Arrays.copyOf(caches, caches.length + 1);
    now[now.length - 1] = cache;
    caches = now;
    return cache;
  }

  // ---- the rules; tests replace one by a broken twin and must notice

  /** Whether a closed block may go to another user on its own stream. */
  boolean reusable(Uses uses) {
    return uses.othersPassed();
  }

  /** Whether a closed block may go anywhere. */
  boolean unused(Uses uses) {
    return uses.passed();
  }

  /** Waits until the CPU may touch the memory. */
  void awaitHostSafe(Uses uses) {
    uses.await();
  }

  /** The value of the owner that another stream's work on the memory has to follow. */
  long inherited(Uses uses) {
    return uses.inherited();
  }

  /** All work queued on a stream up to the close uses the memory. */
  void record(Uses uses, DeviceStream stream) {
    uses.record(stream);
  }

  /** The close: what is queued on recorded streams by now counts. */
  void fence(Uses uses) {
    uses.close();
  }

  /** The blocks of a stream. */
  StreamCache cache(DeviceStream stream) {
    return new StreamCache(this, stream);
  }

  /** Whether a block goes straight to its stream's cache once it is {@link #reusable}. */
  boolean keeps(Block block) {
    return settings.memoryMode == MemoryMode.CACHED && block.sizeClass != SizeClasses.HUGE;
  }

  // ---- allocate

  /** What somebody wants. */
  private record Request(
      long bytes, long size, int sizeClass, DeviceStream stream, boolean forHost) {}

  /**
   * Hands out memory on a stream.
   *
   * @param forHost whether the CPU will write it first
   */
  final DeviceBuffer allocate(long bytes, DeviceStream stream, boolean forHost) {
    if (bytes <= 0) {
      throw new IllegalArgumentException("a buffer has at least 1 byte, not " + bytes);
    }
    int sizeClass = SizeClasses.of(bytes);
    DeviceBuffer buffer =
        sizeClass == SizeClasses.HUGE ? null : stream.cache().take(sizeClass, bytes, forHost);
    if (buffer == null) {
      buffer = allocateSlowly(bytes, sizeClass, stream, forHost);
    }
    if (device.isClosed()) {
      buffer.close(); // Device.close may have looked through the blocks in use before it was one
      device.checkOpen();
    }
    Block block = buffer.tenancy().block;
    if (poisons(block)) {
      checkUntouched(block, buffer);
    }
    log.tell(Kind.ALLOCATE, block.id, block.size, stream.index());
    return buffer;
  }

  private DeviceBuffer allocateSlowly(
      long bytes, int sizeClass, DeviceStream stream, boolean forHost) {
    Request request = request(bytes, sizeClass, stream, forHost);
    reportLeaks();
    reclaim(stream.cache());
    DeviceBuffer buffer = cached(request);
    if (buffer != null) {
      return buffer;
    }
    long excess = excess(request.size);
    if (excess > 0) {
      buffer = stolen(request);
      if (buffer != null) {
        return buffer;
      }
      trimTo(Math.max(0, ledger.reservedBytes() - excess));
    }
    enterExchange();
    try {
      buffer = created(request);
    } finally {
      leaveExchange();
    }
    return buffer != null ? buffer : insist(request);
  }

  private Request request(long bytes, int sizeClass, DeviceStream stream, boolean forHost) {
    long most = Math.min(device.info().maxBufferBytes(), hardLimit);
    if (bytes > most) {
      throw outOfMemory(bytes, stream, null); // nothing that could be given back would help
    }
    long size =
        sizeClass == SizeClasses.HUGE ? SizeClasses.hugeSize(bytes) : SizeClasses.size(sizeClass);
    // What is too large only because it was rounded up is served as it is, and not cached.
    return size > most
        ? new Request(bytes, bytes, SizeClasses.HUGE, stream, forHost)
        : new Request(bytes, size, sizeClass, stream, forHost);
  }

  private @Nullable DeviceBuffer cached(Request request) {
    return request.sizeClass == SizeClasses.HUGE
        ? null
        : request.stream.cache().take(request.sizeClass, request.bytes, request.forHost);
  }

  /**
   * By how many bytes the soft limit would be exceeded by so many more; what the driver has given
   * others counts as well.
   */
  private long excess(long more) {
    if (softLimit == Long.MAX_VALUE) {
      return 0;
    }
    long held = Math.max(ledger.reservedBytes(), driverMemory().allocatedBytes());
    return held - (softLimit - more);
  }

  /** Memory from the driver; null if it has none, or the hard limit forbids. Within an exchange. */
  private @Nullable DeviceBuffer created(Request request) {
    if (!ledger.promise(request.size, hardLimit)) {
      return null;
    }
    Block block = null;
    try {
      // The driver's own figure counts what it allocates behind our back, compiled graphs for
      // example.
      if (hardLimit == Long.MAX_VALUE
          || driver.memory().allocatedBytes() <= hardLimit - request.size) {
        block =
            new Block(
                nextBlock.getAndIncrement(),
                driver.createBuffer(request.size),
                request.size,
                request.sizeClass,
                request.stream);
      }
    } catch (DriverException e) {
      if (e.status() != Status.OUT_OF_MEMORY) {
        throw device.translate(e, "allocating " + request.size + " bytes");
      }
    } finally {
      if (block == null) {
        ledger.withdrawn(request.size);
      } else {
        ledger.kept(block.pool(), block.size);
      }
    }
    if (block == null) {
      return null;
    }
    if (poisons(block)) {
      poison(block);
    }
    deviceAllocations.incrementAndGet();
    log.tell(Kind.DEVICE_ALLOCATE, block.id, block.size, request.stream.index());
    return request.stream.cache().adopt(block, request.bytes);
  }

  /** A block from another stream's cache, or null. */
  private @Nullable DeviceBuffer stolen(Request request) {
    if (settings.steal == StealPolicy.NEVER || request.sizeClass == SizeClasses.HUGE) {
      return null;
    }
    DeviceStream thief = request.stream;
    for (StreamCache other : caches) {
      Block block =
          other.stream() == thief
              ? null
              : other.steal(request.sizeClass, each -> unused(each.uses));
      if (block != null) {
        return stolen(block, 0, request);
      }
    }
    if (settings.steal == StealPolicy.COMPLETE || request.forHost) {
      return null;
    }
    for (StreamCache other : caches) {
      Block block = other.stream() == thief ? null : other.steal(request.sizeClass, each -> true);
      if (block != null) {
        try {
          thief.waitFor(new DeviceEvent(other.stream(), block.uses.ownerValue()));
        } catch (MetalStreamsException e) {
          // One of the two streams has failed: there is no order between them to be had.
          if (!other.putBack(block)) {
            giveBack(block);
          }
          return null;
        }
        return stolen(block, thief.queued(), request);
      }
    }
    return null;
  }

  /** A block whose work the thief's stream has passed once it has reached a value. */
  private DeviceBuffer stolen(Block block, long value, Request request) {
    block.uses.moveTo(request.stream, value);
    steals.incrementAndGet();
    log.tell(Kind.STEAL, block.id, block.size, request.stream.index());
    return request.stream.cache().adopt(block, request.bytes);
  }

  /**
   * The last resort. With no memory on its way anywhere, everything that is unused is given back
   * and the driver asked again; if that does not help, work is waited for, and so on. It fails when
   * nothing but open buffers holds memory.
   */
  private DeviceBuffer insist(Request request) {
    retries.incrementAndGet();
    MetalStreamsException hung = null;
    for (int waits = 0; waits < MOST_WAITS && hung == null; waits++) {
      Uses outstanding;
      enterExchangeAlone();
      try {
        reclaimHeld();
        DeviceBuffer buffer = cached(request);
        if (buffer == null) {
          trimHeld(0);
          buffer = created(request);
        }
        if (buffer != null) {
          return buffer;
        }
        outstanding = outstanding();
      } finally {
        leaveExchangeAlone();
      }
      if (outstanding == null) {
        break;
      }
      try {
        outstanding.awaitReached();
      } catch (WaitInterruptedException | DeviceClosedException e) {
        throw e;
      } catch (MetalStreamsException e) {
        hung = e;
      }
    }
    throw outOfMemory(request.bytes, request.stream, hung);
  }

  /** What keeps a block that nobody has from being given back; null if there is no such block. */
  private @Nullable Uses outstanding() {
    for (StreamCache cache : caches) {
      Uses uses = cache.outstanding();
      if (uses != null) {
        return uses;
      }
    }
    return null;
  }

  private OutOfDeviceMemoryException outOfMemory(
      long bytes, DeviceStream stream, @Nullable Throwable hung) {
    outOfMemories.incrementAndGet();
    log.tell(Kind.OUT_OF_MEMORY, 0, bytes, stream.index());
    MemoryStats now = stats();
    long limit = Math.min(hardLimit, driverMemory().limitBytes());
    long most = device.info().maxBufferBytes();
    String hint =
        bytes > most
            ? "The largest buffer of this device has " + most + " bytes: split the tensor."
            : hung != null
                ? "Work that uses closed buffers does not end: see the suppressed exception."
                : "Close buffers that are no longer needed, work on smaller batches, or raise"
                    + " memory.hard.ratio.";
    OutOfDeviceMemoryException failure =
        new OutOfDeviceMemoryException(
            "cannot allocate "
                + bytes
                + " bytes: allocated "
                + now.allocated()
                + ", active "
                + now.active()
                + ", reserved "
                + now.reserved()
                + ", limit "
                + limit
                + ", largest free block "
                + largestFree()
                + " bytes. "
                + hint);
    if (hung != null) {
      failure.addSuppressed(hung);
    }
    return failure;
  }

  private DriverMemory driverMemory() {
    try {
      return driver.memory();
    } catch (DriverException e) {
      throw device.translate(e, "reading the driver's memory figures");
    }
  }

  private long largestFree() {
    long largest = 0;
    for (BlockInfo block : snapshot()) {
      if (block.state() == BlockInfo.State.CACHED) {
        largest = Math.max(largest, block.size());
      }
    }
    return largest;
  }

  // ---- take back

  /** The user's side of a tenancy has ended, and nobody holds an acquire. Called once for each. */
  final void closed(Tenancy tenancy) {
    Block block = tenancy.block;
    fence(block.uses);
    StreamCache cache = block.uses.owner().cache();
    log.tell(Kind.FREE_REQUESTED, block.id, block.size, cache.stream().index());
    if (keeps(block)) {
      completed(cache.close(tenancy, true), block, cache);
      return;
    }
    enterExchange();
    try {
      completed(cache.close(tenancy, false), block, cache);
    } finally {
      leaveExchange();
    }
  }

  private void completed(Block.State state, Block block, StreamCache cache) {
    if (state == Block.State.PENDING) {
      return;
    }
    log.tell(Kind.FREE_COMPLETED, block.id, block.size, cache.stream().index());
    if (state == Block.State.TAKEN) {
      recycle(block, cache);
    }
  }

  /**
   * Settles pending blocks of all streams whose work is done. Never waits for the device, but may
   * call the driver.
   */
  final void reclaim() {
    for (StreamCache cache : caches) {
      reclaim(cache);
    }
  }

  private void reclaim(StreamCache cache) {
    if (cache.hasPending()) {
      enterExchange();
      try {
        reclaimHeld(cache);
      } finally {
        leaveExchange();
      }
    }
  }

  private void reclaimHeld() {
    for (StreamCache cache : caches) {
      reclaimHeld(cache);
    }
  }

  private void reclaimHeld(StreamCache cache) {
    for (Block block : cache.reclaim()) {
      recycle(block, cache);
    }
  }

  /** What becomes of an unused block that does not go straight to its cache. */
  private void recycle(Block block, StreamCache cache) {
    if (poisons(block)) {
      poison(block);
      if (cache.putBack(block)) {
        return;
      }
    }
    giveBack(block);
  }

  private boolean poisons(Block block) {
    return settings.memoryMode == MemoryMode.POISON && block.sizeClass != SizeClasses.HUGE;
  }

  private void poison(Block block) {
    try {
      Poison.fill(driver, block);
    } catch (DriverException e) {
      // The device is being closed: there will be no next tenant.
    }
  }

  private void checkUntouched(Block block, DeviceBuffer buffer) {
    long damage = Poison.firstDamage(driver, block);
    if (damage >= 0) {
      buffer.close();
      throw new IllegalStateException(
          block + " was written after it was closed, at byte " + damage);
    }
  }

  /** Gives a block that nobody has and no work uses to the driver. */
  private void giveBack(Block block) {
    try {
      driver.destroyBuffer(block.handle);
    } catch (DriverException e) {
      device.log(Level.ERROR, "the driver kept " + block, e);
      return;
    }
    ledger.returned(block.pool(), block.size);
    deviceFrees.incrementAndGet();
    log.tell(Kind.DEVICE_FREE, block.id, block.size, block.uses.owner().index());
  }

  /**
   * Gives back unused cached blocks, the longest unused first, until so much at most is reserved.
   */
  final void trimTo(long bytes) {
    enterExchange();
    try {
      trimHeld(bytes);
    } finally {
      leaveExchange();
    }
  }

  private void trimHeld(long bytes) {
    long reserved = ledger.reservedBytes();
    if (reserved <= bytes) {
      return;
    }
    log.tell(Kind.TRIM, 0, reserved - bytes, -1);
    List<StreamCache.Idle> idle = new ArrayList<>();
    for (StreamCache cache : caches) {
      cache.idle(idle);
    }
    idle.sort(Comparator.comparingLong(StreamCache.Idle::since));
    for (StreamCache.Idle each : idle) {
      if (ledger.reservedBytes() <= bytes) {
        return;
      }
      if (each.block().uses.owner().cache().takeOut(each.block())) {
        giveBack(each.block());
      }
    }
  }

  /** Gives every cached block back, after waiting for work that still uses one. */
  final void emptyCache() {
    for (StreamCache cache : caches) {
      cache.stream().awaitReached(cache.stream().queued(), -1);
    }
    reclaim();
    trimTo(0);
  }

  /** Gives the cached blocks of one stream back, after waiting for its work. */
  final void release(DeviceStream stream) {
    stream.awaitReached(stream.queued(), -1);
    StreamCache cache = stream.cache();
    enterExchange();
    try {
      reclaimHeld(cache);
      List<StreamCache.Idle> idle = new ArrayList<>();
      cache.idle(idle);
      for (StreamCache.Idle each : idle) {
        if (cache.takeOut(each.block())) {
          giveBack(each.block());
        }
      }
    } finally {
      leaveExchange();
    }
  }

  /**
   * Closes every buffer and gives everything back. The device has no work left and takes none; what
   * a view still holds goes when the view is closed.
   */
  final void close() {
    int open = 0;
    long bytes = 0;
    for (StreamCache cache : caches) {
      cache.end().forEach(this::giveBack);
      for (Tenancy tenancy : cache.open()) {
        bytes += tenancy.block.size;
        open++;
        if (tenancy.lifetime.close()) {
          closed(tenancy);
        }
      }
    }
    if (open > 0) {
      device.log(
          Level.WARNING, open + " buffers of " + bytes + " bytes were still open at close", null);
    }
  }

  // ---- exchange with the driver

  private void enterExchange() {
    enter(exchange.readLock());
  }

  private void leaveExchange() {
    leave(exchange.readLock());
  }

  /** Waits until nobody else takes memory from the driver or brings any back, and keeps it so. */
  private void enterExchangeAlone() {
    enter(exchange.writeLock());
  }

  private void leaveExchangeAlone() {
    leave(exchange.writeLock());
  }

  private void enter(Lock lock) {
    device.lockOrder().enter(LockOrder.MEMORY);
    lock.lock();
  }

  private void leave(Lock lock) {
    lock.unlock();
    device.lockOrder().exit(LockOrder.MEMORY);
  }

  // ---- dropped buffers

  /** Takes back what was dropped without a close. */
  final void reportLeaks() {
    for (Tenancy tenancy = leaks.next(); tenancy != null; tenancy = leaks.next()) {
      takeBack(tenancy);
    }
  }

  /** Takes back one buffer that was dropped, waiting so long for it; false if there is none. */
  final boolean awaitLeak(long millis) throws InterruptedException {
    Tenancy tenancy = leaks.await(millis);
    if (tenancy != null) {
      takeBack(tenancy);
    }
    return tenancy != null;
  }

  @SuppressWarnings("ReferenceEquality") // lastUse starts as the site itself
  private void takeBack(Tenancy tenancy) {
    boolean closed = tenancy.lifetime.closed();
    if (tenancy.lifetime.abandon()) {
      String report = leaks.found(tenancy, closed);
      Throwable site = tenancy.site;
      Throwable use = tenancy.lastUse;
      if (site != null && use != null && use != site) {
        site.addSuppressed(use);
      }
      if (report != null) {
        device.log(Level.WARNING, report, site);
      }
      closed(tenancy);
    }
  }

  // ---- figures

  /** Moves the coarse clock; called by the completion thread. */
  final void tick() {
    clock = System.nanoTime();
  }

  final long clock() {
    return clock;
  }

  final Ledger ledger() {
    return ledger;
  }

  final Leaks leaks() {
    return leaks;
  }

  final MemoryLog log() {
    return log;
  }

  final MemoryStats stats() {
    Map<Integer, Long> pending = new HashMap<>();
    for (StreamCache cache : caches) {
      if (cache.hasPending()) {
        pending.put(cache.stream().index(), cache.pendingBytes());
      }
    }
    return new MemoryStats(
        ledger.read(),
        new MemoryStats.Events(
            retries.get(),
            outOfMemories.get(),
            deviceAllocations.get(),
            deviceFrees.get(),
            steals.get(),
            leaks.count()),
        pending);
  }

  final List<BlockInfo> snapshot() {
    List<BlockInfo> blocks = new ArrayList<>();
    for (StreamCache cache : caches) {
      cache.describe(blocks);
    }
    return blocks;
  }
}
