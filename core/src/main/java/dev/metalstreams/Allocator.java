package dev.metalstreams;

import dev.metalstreams.MemoryEvent.Kind;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverMemory;
import dev.metalstreams.driver.Status;
import java.lang.System.Logger.Level;
import java.lang.ref.Reference;
import java.lang.ref.ReferenceQueue;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
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
 * </ol>
 *
 * <p>Early reuse is thereby impossible, whatever the order in which streams complete: a block
 * leaves the hands of its user only through these tests, made on numbers that only grow.
 *
 * <h2>The way of an allocation</h2>
 *
 * Own cache → own pending blocks that are done → above the soft limit, another stream's cache, or
 * trimming of the oldest cached blocks → the driver, within the hard limit → giving back whatever
 * is unused, waiting for pending blocks, for cached ones, and each time the driver again → {@link
 * OutOfDeviceMemoryException}. No lock is held while it waits.
 */
class Allocator {
  private static final long POISON = 0xDBDBDBDBDBDBDBDBL;
  private static final long LARGEST_PART = 1 << 30;

  private final Device device;
  private final Driver driver;
  private final Settings settings;
  private final Ledger ledger = new Ledger();
  private final MemoryLog log;
  private final ReferenceQueue<DeviceBuffer> leaks = new ReferenceQueue<>();
  private final long softLimit;
  private final long hardLimit;

  /**
   * Held from taking blocks out of the lists to giving them to the driver: who finds the lists
   * empty and the driver full waits here for memory that is on its way.
   */
  private final ReentrantLock givingBack = new ReentrantLock();

  private final AtomicLong nextBlock = new AtomicLong(1);
  private final AtomicLong retries = new AtomicLong();
  private final AtomicLong outOfMemories = new AtomicLong();
  private final AtomicLong deviceAllocations = new AtomicLong();
  private final AtomicLong deviceFrees = new AtomicLong();
  private final AtomicLong steals = new AtomicLong();
  private final AtomicLong leaked = new AtomicLong();

  /** Of all streams; replaced under the monitor when a stream is created. */
  private volatile StreamCache[] caches = {};

  /**
   * Coarse time, moved by the completion thread: reading the real one would cost more than an
   * allocation.
   */
  private volatile long clock = System.nanoTime();

  Allocator(Device device) {
    this.device = device;
    this.driver = device.driver();
    this.settings = device.settings();
    this.log = new MemoryLog(settings.memoryHistory);
    long recommended = device.info().recommendedBytes();
    this.softLimit = limit(settings.softLimit, recommended);
    this.hardLimit = limit(settings.hardLimit, recommended);
  }

  private static long limit(double ratio, long recommended) {
    return ratio == 0 ? Long.MAX_VALUE : (long) (ratio * recommended);
  }

  /** Opens the cache of a new stream. */
  synchronized StreamCache open(DeviceStream stream) {
    StreamCache cache = new StreamCache(device, this, stream);
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

  /** All work queued on a stream up to the close uses the memory. */
  void record(Uses uses, DeviceStream stream) {
    uses.record(stream);
  }

  /** The close: what is queued on recorded streams by now counts. */
  void fence(Uses uses) {
    uses.close();
  }

  /** Whether a block goes straight to its stream's cache once it is {@link #reusable}. */
  boolean keeps(Block block) {
    return settings.memoryMode == MemoryMode.CACHED && block.sizeClass != SizeClasses.HUGE;
  }

  // ---- allocate

  /**
   * Hands out memory on a stream.
   *
   * @param forHost whether the CPU will write it first
   */
  DeviceBuffer allocate(long bytes, DeviceStream stream, boolean forHost) {
    if (bytes <= 0) {
      throw new IllegalArgumentException("a buffer has at least 1 byte, not " + bytes);
    }
    int sizeClass = SizeClasses.of(bytes);
    DeviceBuffer buffer =
        sizeClass == SizeClasses.HUGE ? null : recycled(stream, sizeClass, bytes, forHost);
    if (buffer == null) {
      buffer = allocateSlowly(bytes, sizeClass, stream, forHost);
    }
    if (device.isClosed()) {
      buffer.close(); // Device.close may have looked through the blocks in use before it was one
      device.checkOpen();
    }
    Block block = buffer.tenancy().block;
    log.tell(Kind.ALLOCATE, block.id, block.size, block.uses.owner().index());
    return buffer;
  }

  private @Nullable DeviceBuffer recycled(
      DeviceStream stream, int sizeClass, long bytes, boolean forHost) {
    DeviceBuffer buffer = stream.cache().take(sizeClass, bytes, forHost);
    if (buffer != null && settings.memoryMode == MemoryMode.POISON) {
      checkCanaries(buffer.tenancy().block);
    }
    return buffer;
  }

  private DeviceBuffer allocateSlowly(
      long bytes, int sizeClass, DeviceStream stream, boolean forHost) {
    long most = device.info().maxBufferBytes();
    long size =
        sizeClass == SizeClasses.HUGE ? SizeClasses.hugeSize(bytes) : SizeClasses.size(sizeClass);
    if (size > most) {
      // The class may be larger than the largest buffer although the request is not.
      sizeClass = SizeClasses.HUGE;
      size = bytes;
    }
    if (size > Math.min(most, hardLimit)) {
      throw outOfMemory(bytes, stream); // nothing that could be given back would help
    }
    boolean leaksClosed = reportLeaks();
    if (reclaim(stream.cache()) || leaksClosed) {
      DeviceBuffer cached =
          sizeClass == SizeClasses.HUGE ? null : recycled(stream, sizeClass, bytes, forHost);
      if (cached != null) {
        return cached;
      }
    }
    if (ledger.reservedBytes() > softLimit - size) {
      Block other = sizeClass == SizeClasses.HUGE ? null : stealFor(stream, sizeClass, forHost);
      if (other != null) {
        return stream.cache().adopt(other, bytes);
      }
      trimTo(Math.max(0, softLimit - size));
    }
    return stream.cache().adopt(create(bytes, size, sizeClass, stream), bytes);
  }

  private Block create(long bytes, long size, int sizeClass, DeviceStream stream) {
    Block block = tryCreate(size, sizeClass, stream);
    if (block != null) {
      return block;
    }
    retries.incrementAndGet();
    awaitGivingBack();
    // Dearer with every step, and after each the driver is asked again: what is done anyway, what
    // is done soon, what
    // the caches hold.
    reclaim();
    trimTo(0);
    block = tryCreate(size, sizeClass, stream);
    while (block == null && awaitPending()) {
      block = tryCreate(size, sizeClass, stream);
    }
    if (block == null) {
      awaitCached();
      trimTo(0);
      block = tryCreate(size, sizeClass, stream);
    }
    if (block == null) {
      throw outOfMemory(bytes, stream);
    }
    return block;
  }

  /** Asks the driver; null if it has no memory, or the hard limit forbids. */
  private @Nullable Block tryCreate(long size, int sizeClass, DeviceStream stream) {
    int pool = size <= SizeClasses.SMALL ? Ledger.SMALL : Ledger.LARGE;
    if (!ledger.reserve(pool, size, hardLimit)) {
      return null;
    }
    try {
      // The driver's own figure counts what it allocates behind our back, compiled graphs for
      // example.
      if (hardLimit != Long.MAX_VALUE && driver.memory().allocatedBytes() > hardLimit - size) {
        ledger.unreserve(pool, size);
        return null;
      }
      Block block =
          new Block(
              nextBlock.getAndIncrement(), driver.createBuffer(size), size, sizeClass, stream);
      deviceAllocations.incrementAndGet();
      log.tell(Kind.DEVICE_ALLOCATE, block.id, size, stream.index());
      return block;
    } catch (DriverException e) {
      ledger.unreserve(pool, size);
      if (e.status() == Status.OUT_OF_MEMORY) {
        return null;
      }
      throw device.translate(e, "allocating " + size + " bytes");
    }
  }

  /** A block from another stream's cache, now this stream's, or null. */
  private @Nullable Block stealFor(DeviceStream thief, int sizeClass, boolean forHost) {
    if (settings.steal == StealPolicy.NEVER) {
      return null;
    }
    for (StreamCache other : caches) {
      if (other.stream() != thief) {
        Block block = other.steal(sizeClass, each -> unused(each.uses));
        if (block != null) {
          return stolen(block, thief);
        }
      }
    }
    if (settings.steal == StealPolicy.COMPLETE || forHost) {
      return null;
    }
    for (StreamCache other : caches) {
      if (other.stream() != thief) {
        Block block = other.steal(sizeClass, each -> true);
        if (block != null) {
          thief.waitFor(new DeviceEvent(other.stream(), block.uses.ownerValue()));
          return stolen(block, thief);
        }
      }
    }
    return null;
  }

  private Block stolen(Block block, DeviceStream thief) {
    block.uses.moveTo(thief);
    steals.incrementAndGet();
    log.tell(Kind.STEAL, block.id, block.size, thief.index());
    return block;
  }

  private OutOfDeviceMemoryException outOfMemory(long bytes, DeviceStream stream) {
    outOfMemories.incrementAndGet();
    log.tell(Kind.OUT_OF_MEMORY, 0, bytes, stream.index());
    MemoryStats now = stats();
    long limit = Math.min(hardLimit, driverMemory().limitBytes());
    long most = device.info().maxBufferBytes();
    String hint =
        bytes > most
            ? "The largest buffer of this device has " + most + " bytes: split the tensor."
            : "Close buffers that are no longer needed, work on smaller batches, or raise memory.hard.ratio.";
    return new OutOfDeviceMemoryException(
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
  void closed(Tenancy tenancy) {
    Block block = tenancy.block;
    fence(block.uses);
    log.tell(Kind.FREE_REQUESTED, block.id, block.size, block.uses.owner().index());
    if (block.uses.owner().cache().close(block, keeps(block))) {
      recycle(block);
    }
    if (device.isClosed()) {
      giveAllBack(); // close() may have looked through the caches before this block was in one
    }
  }

  private void giveAllBack() {
    reclaim();
    trimTo(0);
  }

  /**
   * Settles pending blocks of all streams whose work is done. Never blocks, but may call the
   * driver.
   */
  void reclaim() {
    for (StreamCache cache : caches) {
      reclaim(cache);
    }
  }

  /** True if there was any such block. */
  private boolean reclaim(StreamCache cache) {
    if (!cache.hasPending()) {
      return false;
    }
    lockGivingBack();
    try {
      List<Block> blocks = cache.reclaim();
      blocks.forEach(this::recycle);
      return !blocks.isEmpty();
    } finally {
      unlockGivingBack();
    }
  }

  private void lockGivingBack() {
    device.lockOrder().enter(LockOrder.MEMORY);
    givingBack.lock();
  }

  private void unlockGivingBack() {
    givingBack.unlock();
    device.lockOrder().exit(LockOrder.MEMORY);
  }

  /** Returns once whoever is giving memory back now has done so. */
  private void awaitGivingBack() {
    lockGivingBack();
    unlockGivingBack();
  }

  /** What becomes of an unused block that does not go straight to its cache. */
  private void recycle(Block block) {
    if (settings.memoryMode == MemoryMode.POISON && block.sizeClass != SizeClasses.HUGE) {
      poison(block);
      block.uses.owner().cache().putBack(block);
    } else {
      giveBack(block);
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
    ledger.unreserve(block.pool(), block.size);
    deviceFrees.incrementAndGet();
    log.tell(Kind.DEVICE_FREE, block.id, block.size, block.uses.owner().index());
  }

  /**
   * Gives back unused cached blocks, the longest unused first, until so much at most is reserved.
   */
  void trimTo(long bytes) {
    long reserved = ledger.reservedBytes();
    if (reserved <= bytes) {
      return;
    }
    log.tell(Kind.TRIM, 0, reserved - bytes, -1);
    List<Block> idle = new ArrayList<>();
    for (StreamCache cache : caches) {
      cache.idle(idle);
    }
    idle.sort(Comparator.comparingLong(block -> block.stamp));
    lockGivingBack();
    try {
      for (Block block : idle) {
        if (ledger.reservedBytes() <= bytes) {
          return;
        }
        if (block.uses.owner().cache().takeOut(block)) {
          giveBack(block);
        }
      }
    } finally {
      unlockGivingBack();
    }
  }

  /** Waits for the work of one pending block; false if there is none. */
  private boolean awaitPending() {
    for (StreamCache cache : caches) {
      Uses uses = cache.oldestPending();
      if (uses != null) {
        uses.awaitReached();
        reclaim();
        return true;
      }
    }
    return false;
  }

  /** Waits for the work that cached blocks are still used by. */
  private void awaitCached() {
    for (StreamCache cache : caches) {
      cache.stream().awaitReached(cache.stream().queued(), -1);
    }
  }

  /** Gives every cached block back, after waiting for work that still uses one. */
  void emptyCache() {
    awaitCached();
    reclaim();
    trimTo(0);
  }

  /** Gives the cached blocks of one stream back, after waiting for its work. */
  void release(DeviceStream stream) {
    stream.awaitReached(stream.queued(), -1);
    reclaim(stream.cache());
    lockGivingBack();
    try {
      stream.cache().drain(block -> unused(block.uses)).forEach(this::giveBack);
    } finally {
      unlockGivingBack();
    }
  }

  /** Closes every buffer and gives everything back. The device has no work left and takes none. */
  void close() {
    int open = 0;
    long bytes = 0;
    for (StreamCache cache : caches) {
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
    giveAllBack();
  }

  // ---- dropped buffers

  /** Takes back what was dropped without a close; true if there was any. */
  boolean reportLeaks() {
    boolean any = false;
    for (Reference<? extends DeviceBuffer> each = leaks.poll(); each != null; each = leaks.poll()) {
      Tenancy tenancy = (Tenancy) each;
      if (tenancy.lifetime.close()) {
        any = true;
        leaked.incrementAndGet();
        report(tenancy);
        closed(tenancy);
      }
    }
    return any;
  }

  @SuppressWarnings("ReferenceEquality") // lastUse starts as the site itself
  private void report(Tenancy tenancy) {
    if (leakLevel() == LeakLevel.DISABLED) {
      return;
    }
    Throwable site = tenancy.site;
    String what =
        "LEAK: a buffer of "
            + tenancy.block.size
            + " bytes on "
            + tenancy.block.uses.owner().label()
            + " was dropped without close(). ";
    if (site == null) {
      device.log(
          Level.WARNING, what + "Set memory.leaks=paranoid to learn where it was allocated.", null);
      return;
    }
    Throwable use = tenancy.lastUse;
    if (use != null && use != site) {
      site.addSuppressed(use);
    }
    device.log(Level.WARNING, what + "It was allocated here:", site);
  }

  // ---- poison

  /** Fills an unused block with a pattern that its next tenant must find as it is. */
  private void poison(Block block) {
    eachPart(
        block,
        (contents, start) -> {
          for (int i = 0; i < contents.capacity(); i += Long.BYTES) {
            contents.putLong(i, POISON);
          }
        });
  }

  private void checkCanaries(Block block) {
    eachPart(
        block,
        (contents, start) -> {
          for (int i = 0; i < contents.capacity(); i += Long.BYTES) {
            if (contents.getLong(i) != POISON) {
              throw new IllegalStateException(
                  block + " was written after it was closed, at byte " + (start + i));
            }
          }
        });
  }

  private interface Part {
    void at(ByteBuffer contents, long start);
  }

  /** Cached blocks are multiples of 8 bytes, and their parts fit into a ByteBuffer. */
  private void eachPart(Block block, Part part) {
    for (long start = 0; start < block.size; start += LARGEST_PART) {
      int length = (int) Math.min(block.size - start, LARGEST_PART);
      part.at(driver.contents(block.handle, start, length), start);
    }
  }

  // ---- figures

  /** Moves the coarse clock; called by the completion thread. */
  void tick() {
    clock = System.nanoTime();
  }

  long clock() {
    return clock;
  }

  Ledger ledger() {
    return ledger;
  }

  ReferenceQueue<DeviceBuffer> leaks() {
    return leaks;
  }

  LeakLevel leakLevel() {
    return settings.leakLevel;
  }

  MemoryLog log() {
    return log;
  }

  MemoryStats stats() {
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
            leaked.get()),
        pending);
  }

  List<BlockInfo> snapshot() {
    List<BlockInfo> blocks = new ArrayList<>();
    for (StreamCache cache : caches) {
      cache.describe(blocks);
    }
    return blocks;
  }
}
