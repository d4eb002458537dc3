package dev.metalstreams;

import dev.metalstreams.MemoryStats.Metric;
import dev.metalstreams.MemoryStats.Pool;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/**
 * A device that is used at random, beside an oracle that knows which operation may still touch each
 * byte of memory.
 *
 * <p>The oracle does not know how the allocator chooses. It knows what every choice has to respect,
 * and looks after every step that it does:
 *
 * <ul>
 *   <li>no operation runs, nor does the CPU get memory, while work of an earlier tenant is under
 *       way, and nothing is given to the driver that any work uses;
 *   <li>every byte that the driver has given stands in exactly one block, of the state that its
 *       user and the work under way ask for;
 *   <li>every figure, peaks and totals included, is what the oracle has counted by itself;
 *   <li>an allocation fails only if what is in use leaves no room.
 * </ul>
 */
final class MemoryModel implements ModelDriver.Watcher {

  /** What did not hold. */
  enum Check {
    EARLY_REUSE,
    EARLY_RELEASE,
    HOST_ACCESS,
    DOUBLE_HAND_OUT,
    LOST_BLOCK,
    WRONG_BLOCK,
    KEPT_TOO_LONG,
    CACHE_MISSED,
    NEEDLESS_FAILURE,
    FIGURES
  }

  /** A check that did not hold. */
  static final class Violation extends AssertionError {
    private static final long serialVersionUID = 1L;
    final Check check;

    private Violation(Check check, String detail) {
      super(check + ": " + detail);
      this.check = check;
    }
  }

  /** What kind of device it is. */
  record Setup(long limit, StealPolicy steal, MemoryMode mode, boolean crowded) {}

  private static final int STREAMS = 6;
  private static final int MOST_OPEN = 40;
  private static final long LARGEST_BUFFER = 1L << 30;
  private static final double HARD = 0.95;

  /** A block, as the oracle sees it. */
  private static final class Held {
    final ModelDriver.Buffer memory;
    final Pool pool;
    BlockInfo.State state = BlockInfo.State.IN_USE;
    int owner;
    long tenant;
    long requested;
    long id;

    Held(ModelDriver.Buffer memory) {
      this.memory = memory;
      this.pool = memory.bytes <= 1 << 20 ? Pool.SMALL : Pool.LARGE;
    }

    /** Other streams than the owner still work on it for the present or the last tenant. */
    boolean usedByOthers() {
      for (int i = 0; i < memory.uses.size(); i++) {
        ModelDriver.Use use = memory.uses.get(i);
        if (use.tenant() == tenant && use.queue().id != owner + 1) {
          return true;
        }
      }
      return false;
    }
  }

  /** A buffer that the random user has. */
  private static final class Mine {
    final DeviceBuffer buffer;
    final Held held;
    final List<HostView> views = new ArrayList<>(0);
    final List<Recorded> recorded = new ArrayList<>(0);

    Mine(DeviceBuffer buffer, Held held) {
      this.buffer = buffer;
      this.held = held;
    }
  }

  /** A stream that was recorded, and how far work was queued on it then. */
  private record Recorded(DeviceStream stream, long queued) {}

  /** One figure. */
  private static final class Tally {
    long current;
    long peak;
    long in;
    long out;

    void add(long by) {
      current += by;
      in += by;
      peak = Math.max(peak, current);
    }

    void take(long by) {
      current -= by;
      out += by;
    }

    MemoryStats.Counter counter() {
      return new MemoryStats.Counter(current, peak, in, out);
    }
  }

  private final Setup setup;
  private final SplittableRandom random;
  private final ModelDriver driver;
  private final Device device;
  private final List<DeviceStream> streams = new ArrayList<>();

  private final Map<Long, Held> byHandle = new HashMap<>();
  private final Map<Long, Held> byId = new HashMap<>();
  private final List<Mine> mine = new ArrayList<>();
  private final Map<Metric, Map<Pool, Tally>> bytes = tallies();
  private final Map<Metric, Map<Pool, Tally>> counts = tallies();
  private long tenants;
  private long created;
  private long destroyed;
  private long stolen;
  private long failed;
  private @Nullable DeviceBuffer lastClosed;
  private @Nullable Held fresh;

  private MemoryModel(Setup setup, long seed, Parts parts) {
    this.setup = setup;
    this.random = new SplittableRandom(seed);
    this.driver = new ModelDriver(this, random.split(), setup.limit, LARGEST_BUFFER);
    this.device =
        Device.builder()
            .driver(options -> driver)
            .parts(parts)
            .debug(true)
            .steal(setup.steal)
            .memoryMode(setup.mode)
            .memoryRatios(0.85, HARD)
            .open();
    for (int i = 0; i < STREAMS; i++) {
      streams.add(device.streams().stream(i));
    }
  }

  private static Map<Metric, Map<Pool, Tally>> tallies() {
    Map<Metric, Map<Pool, Tally>> tallies = new EnumMap<>(Metric.class);
    for (Metric metric : Metric.values()) {
      Map<Pool, Tally> pools = new EnumMap<>(Pool.class);
      for (Pool pool : Pool.values()) {
        pools.put(pool, new Tally());
      }
      tallies.put(metric, pools);
    }
    return tallies;
  }

  /**
   * Uses a device on {@code parts}, without a completion thread, for so many steps; returns its
   * figures before the end.
   */
  static MemoryStats run(Setup setup, long seed, int steps, Parts parts) {
    MemoryModel model = new MemoryModel(setup, seed, parts);
    int step = 0;
    try {
      for (; step < steps; step++) {
        model.step();
        model.check();
      }
      MemoryStats stats = model.device.memory().stats();
      model.end();
      return stats;
    } catch (Violation e) {
      Violation told = new Violation(e.check, "seed " + seed + ", step " + step + ", " + setup);
      told.initCause(e);
      throw told;
    } catch (RuntimeException | AssertionError e) {
      throw new AssertionError("seed " + seed + ", step " + step + ", " + setup, e);
    }
  }

  private static Violation violation(Check check, Object... detail) {
    StringBuilder text = new StringBuilder();
    for (Object each : detail) {
      text.append(each).append(' ');
    }
    return new Violation(check, text.toString());
  }

  // ---- what happens on the device

  @Override
  public void created(ModelDriver.Buffer memory) {
    Held held = new Held(memory);
    byHandle.put(memory.handle, held);
    fresh = held;
    created++;
    add(Metric.RESERVED, held, memory.bytes);
  }

  @Override
  public void destroyed(ModelDriver.Buffer memory) {
    Held held = held(memory.handle);
    if (!memory.uses.isEmpty()) {
      throw violation(Check.EARLY_RELEASE, memory.uses.size(), "uses are under way");
    }
    if (held.state == BlockInfo.State.IN_USE) {
      throw violation(Check.EARLY_RELEASE, "an open buffer has the memory");
    }
    settle(held);
    take(Metric.RESERVED, held, memory.bytes);
    destroyed++;
    byHandle.remove(memory.handle);
    byId.remove(held.id);
  }

  @Override
  public long tenantOf(ModelDriver.Buffer memory) {
    return held(memory.handle).tenant;
  }

  @Override
  public void runs(ModelDriver.Use use) {
    if (!use.ordered()) {
      return;
    }
    List<ModelDriver.Use> all = use.buffer().uses;
    for (int i = 0; i < all.size(); i++) {
      ModelDriver.Use other = all.get(i);
      if (other.tenant() < use.tenant() && other.queue() != use.queue()) {
        throw violation(Check.EARLY_REUSE, use, "runs before", other, "of an earlier tenant");
      }
    }
  }

  private Held held(long handle) {
    Held held = byHandle.get(handle);
    if (held == null) {
      throw violation(Check.LOST_BLOCK, "handle", handle);
    }
    return held;
  }

  // ---- counting

  private void add(Metric metric, Held held, long by) {
    for (Pool pool : new Pool[] {Pool.ALL, held.pool}) {
      tally(bytes, metric, pool).add(by);
      tally(counts, metric, pool).add(1);
    }
  }

  private void take(Metric metric, Held held, long by) {
    for (Pool pool : new Pool[] {Pool.ALL, held.pool}) {
      tally(bytes, metric, pool).take(by);
      tally(counts, metric, pool).take(1);
    }
  }

  private static Tally tally(Map<Metric, Map<Pool, Tally>> of, Metric metric, Pool pool) {
    Map<Pool, Tally> pools = of.get(metric);
    Tally tally = pools == null ? null : pools.get(pool);
    if (tally == null) {
      throw new AssertionError(metric + " " + pool);
    }
    return tally;
  }

  /** A closed block's work is done. */
  private void settle(Held held) {
    if (held.state == BlockInfo.State.PENDING) {
      held.state = BlockInfo.State.CACHED;
      take(Metric.ACTIVE, held, held.memory.bytes);
    }
  }

  // ---- steps

  private void step() {
    int draw = random.nextInt(1000);
    if (draw < 220) {
      allocate(random.nextInt(6) == 0);
    } else if (draw < 390) {
      fill();
    } else if (draw < 440) {
      copy();
    } else if (draw < 650) {
      close();
    } else if (draw < 850) {
      for (int i = random.nextInt(8); i >= 0; i--) {
        driver.advance();
      }
    } else if (draw < 910) {
      drain();
    } else if (draw < 935) {
      record();
    } else if (draw < 955) {
      map();
    } else if (draw < 975) {
      stream().flush();
    } else if (draw < 990) {
      stream().waitFor(stream().record());
    } else {
      seldom(draw);
    }
  }

  private void seldom(int draw) {
    switch (draw) {
      case 990 -> trim();
      case 991 -> release();
      case 992 -> device.memory().resetPeak();
      case 993 -> device.memory().resetAccumulated();
      case 994 -> useClosed();
      case 995 -> {
        if (random.nextInt(8) == 0) {
          empty();
        }
      }
      default -> {
        if (setup.crowded) {
          driver.hold(random.nextLong(setup.limit / 4));
        }
      }
    }
    if (draw == 992) {
      forAll(tally -> tally.peak = tally.current);
    } else if (draw == 993) {
      forAll(
          tally -> {
            tally.in = 0;
            tally.out = 0;
          });
    }
  }

  private void forAll(java.util.function.Consumer<Tally> change) {
    for (Map<Metric, Map<Pool, Tally>> each : List.of(bytes, counts)) {
      each.values().forEach(pools -> pools.values().forEach(change));
    }
  }

  private DeviceStream stream() {
    return streams.get(random.nextInt(STREAMS));
  }

  private @Nullable Mine any() {
    return mine.isEmpty() ? null : mine.get(random.nextInt(mine.size()));
  }

  /** Sizes over all classes: as many from each doubling, and now and then a huge one. */
  private long size() {
    int most = setup.crowded ? 27 : 29;
    long upTo = 1L << random.nextInt(most);
    return 1 + random.nextLong(upTo);
  }

  private void allocate(boolean forHost) {
    if (mine.size() >= MOST_OPEN) {
      close();
      return;
    }
    DeviceStream stream = stream();
    long wanted = size();
    long room = cachedSize(stream, wanted, forHost);
    fresh = null;
    DeviceBuffer buffer;
    try {
      buffer = device.allocator().allocate(wanted, stream, forHost);
    } catch (OutOfDeviceMemoryException e) {
      failed++;
      checkFailure(wanted);
      return;
    }
    if (fresh != null && room > 0) {
      throw violation(Check.CACHE_MISSED, wanted, "bytes, although", room, "are cached");
    }
    Block block = buffer.tenancy().block;
    Held held = held(block.handle);
    observe();
    if (held.state == BlockInfo.State.PENDING && !held.usedByOthers()) {
      settle(held); // and handed out again at once
    }
    if (held == fresh) {
      held.id = block.id;
      byId.put(block.id, held);
    } else if (held.state != BlockInfo.State.CACHED || held.id != block.id) {
      throw violation(Check.DOUBLE_HAND_OUT, block, "was", held.state);
    } else {
      checkHandOut(held, stream, forHost);
    }
    checkSize(held.memory.bytes, wanted);
    held.state = BlockInfo.State.IN_USE;
    held.owner = stream.index();
    held.tenant = ++tenants;
    held.requested = wanted;
    add(Metric.ALLOCATED, held, held.memory.bytes);
    add(Metric.REQUESTED, held, wanted);
    add(Metric.ACTIVE, held, held.memory.bytes);
    mine.add(new Mine(buffer, held));
  }

  /** Size of a block that an allocation should find in its stream's cache, 0 if there is none. */
  private long cachedSize(DeviceStream stream, long wanted, boolean forHost) {
    int sizeClass = SizeClasses.of(wanted);
    if (forHost || sizeClass == SizeClasses.HUGE || setup.mode != MemoryMode.CACHED) {
      return 0;
    }
    long size = SizeClasses.size(sizeClass);
    for (Held each : byHandle.values()) {
      if (each.state == BlockInfo.State.CACHED
          && each.owner == stream.index()
          && each.memory.bytes == size) {
        return size;
      }
    }
    return 0;
  }

  private void checkHandOut(Held held, DeviceStream stream, boolean forHost) {
    boolean moved = held.owner != stream.index();
    stolen += moved ? 1 : 0;
    // A block that another stream still uses may move if this stream waits for it on the device,
    // which shows when its work runs.
    boolean waits = moved && setup.steal == StealPolicy.WAIT;
    if (!waits && (moved ? !held.memory.uses.isEmpty() : held.usedByOthers())) {
      throw violation(Check.EARLY_REUSE, "block", held.id, "is handed out with", held.memory.uses);
    }
    if (forHost && !held.memory.uses.isEmpty()) {
      throw violation(Check.HOST_ACCESS, "for the CPU, with", held.memory.uses);
    }
  }

  private static void checkSize(long size, long wanted) {
    long waste = size - wanted;
    boolean fits =
        waste >= 0 && (wanted <= 4096 ? size <= Math.max(256, 2 * wanted) : waste * 8 <= size);
    if (!fits) {
      throw violation(Check.WRONG_BLOCK, size, "bytes for", wanted);
    }
  }

  /** An allocation may fail if what is in use leaves no room, and for no other reason. */
  private void checkFailure(long wanted) {
    long inUse = 0;
    for (Held each : byHandle.values()) {
      inUse += each.state == BlockInfo.State.IN_USE ? each.memory.bytes : 0;
    }
    int sizeClass = SizeClasses.of(wanted);
    long size =
        sizeClass == SizeClasses.HUGE ? SizeClasses.hugeSize(wanted) : SizeClasses.size(sizeClass);
    long hard = (long) (HARD * setup.limit);
    if (wanted <= LARGEST_BUFFER && inUse + driver.heldByOthers() + size <= hard) {
      throw violation(Check.NEEDLESS_FAILURE, size, "bytes, with", inUse, "in use of", hard);
    }
  }

  private void fill() {
    Mine each = any();
    if (each != null) {
      boolean own = random.nextInt(3) > 0;
      (own ? each.buffer.stream() : stream()).fill(each.buffer, (byte) 1);
    }
  }

  private void copy() {
    Mine from = any();
    Mine to = any();
    if (from != null && to != null && from != to) {
      long length = Math.min(from.buffer.byteSize(), to.buffer.byteSize());
      stream().copy(from.buffer, 0, to.buffer, 0, length);
    }
  }

  private void record() {
    Mine each = any();
    if (each != null) {
      DeviceStream stream = stream();
      each.buffer.recordStream(stream);
      each.recorded.add(new Recorded(stream, stream.queued()));
    }
  }

  private void map() {
    Mine each = any();
    if (each != null) {
      HostView view = each.buffer.map();
      if (!each.held.memory.uses.isEmpty()) {
        throw violation(Check.HOST_ACCESS, "mapped with", each.held.memory.uses);
      }
      if (random.nextBoolean()) {
        view.close();
      } else {
        each.views.add(view);
      }
    }
  }

  private void close() {
    if (!mine.isEmpty()) {
      close(mine.remove(random.nextInt(mine.size())));
    }
  }

  /** The buffer or the last view of it, whichever comes last, ends the use. */
  private void close(Mine each) {
    boolean bufferLast = random.nextBoolean();
    if (!bufferLast && !each.views.isEmpty()) {
      each.buffer.close();
    }
    for (int i = 0; i < each.views.size() - (bufferLast ? 0 : 1); i++) {
      each.views.get(i).close();
    }
    Held held = each.held;
    for (Recorded recorded : each.recorded) {
      driver.useUnseen(held.memory, held.tenant, recorded.stream.id(), recorded.queued);
    }
    held.state = BlockInfo.State.PENDING;
    held.requested = 0;
    take(Metric.ALLOCATED, held, held.memory.bytes);
    take(Metric.REQUESTED, held, each.buffer.byteSize());
    if (bufferLast || each.views.isEmpty()) {
      each.buffer.close();
    } else {
      each.views.get(each.views.size() - 1).close();
    }
    lastClosed = each.buffer;
  }

  private void useClosed() {
    DeviceBuffer closed = lastClosed;
    if (closed != null) {
      try {
        stream().fill(closed, (byte) 1);
      } catch (IllegalStateException e) {
        return;
      }
      throw violation(Check.DOUBLE_HAND_OUT, "a closed buffer can be used");
    }
  }

  // ---- steps after which more must hold

  private void drain() {
    device.completions().drain(0);
    observe();
    for (Held each : byHandle.values()) {
      boolean busy = keeps(each) ? each.usedByOthers() : !each.memory.uses.isEmpty();
      if (each.state == BlockInfo.State.PENDING && !busy) {
        throw violation(Check.KEPT_TOO_LONG, "block", each.id, "is pending for nothing");
      }
    }
  }

  private boolean keeps(Held held) {
    return setup.mode == MemoryMode.CACHED && SizeClasses.of(held.memory.bytes) != SizeClasses.HUGE;
  }

  private void trim() {
    drain();
    long target = random.nextLong(setup.limit);
    device.memory().trimTo(target);
    if (driver.allocated() > target) {
      for (Held each : byHandle.values()) {
        if (each.state == BlockInfo.State.CACHED && each.memory.uses.isEmpty()) {
          throw violation(Check.KEPT_TOO_LONG, "block", each.id, "was not trimmed");
        }
      }
    }
  }

  private void release() {
    DeviceStream stream = stream();
    device.memory().release(stream);
    requireNoneCached(stream.index());
  }

  private void empty() {
    device.memory().emptyCache();
    requireNoneCached(-1);
  }

  private void requireNoneCached(int owner) {
    observe();
    for (Held each : byHandle.values()) {
      if (each.state != BlockInfo.State.IN_USE
          && (owner < 0 || (each.owner == owner && each.state == BlockInfo.State.CACHED))) {
        throw violation(Check.KEPT_TOO_LONG, "block", each.id, "was not given back");
      }
    }
  }

  // ---- after every step

  private void check() {
    List<BlockInfo> blocks = observe();
    checkBlocks(blocks);
    checkFigures();
  }

  /** Every byte stands in one block; closed blocks may have become free. */
  private List<BlockInfo> observe() {
    List<BlockInfo> blocks = device.memory().snapshot();
    long sum = 0;
    for (int i = 0; i < blocks.size(); i++) {
      BlockInfo block = blocks.get(i);
      sum += block.size();
      Held held = byId.get(block.id());
      if (held == null) {
        if (fresh == null || fresh.id != 0) {
          throw violation(Check.LOST_BLOCK, block, "is not known");
        }
        continue; // its allocation looks at it
      }
      if (held.state == BlockInfo.State.PENDING && block.state() == BlockInfo.State.CACHED) {
        if (held.usedByOthers()) {
          throw violation(Check.EARLY_REUSE, "free with", held.memory.uses);
        }
        settle(held);
      }
    }
    if (blocks.size() != byHandle.size() || sum != driver.allocated()) {
      throw violation(
          Check.LOST_BLOCK,
          blocks.size(),
          "blocks of",
          sum,
          "bytes, but the driver has given",
          byHandle.size(),
          "of",
          driver.allocated());
    }
    return blocks;
  }

  private void checkBlocks(List<BlockInfo> blocks) {
    for (int i = 0; i < blocks.size(); i++) {
      BlockInfo block = blocks.get(i);
      Held held = byId.get(block.id());
      if (held == null
          || held.state != block.state()
          || held.memory.bytes != block.size()
          || held.requested != block.requested()
          || held.owner != block.stream()) {
        throw violation(Check.WRONG_BLOCK, block, "is", held == null ? "lost" : held.state);
      }
    }
  }

  private void checkFigures() {
    Map<Integer, Long> pending = new HashMap<>();
    for (Held each : byHandle.values()) {
      if (each.state == BlockInfo.State.PENDING) {
        pending.merge(each.owner, each.memory.bytes, Long::sum);
      }
    }
    MemoryStats stats = device.memory().stats();
    for (Metric metric : Metric.values()) {
      for (Pool pool : Pool.values()) {
        require(stats.bytes(metric, pool), tally(bytes, metric, pool), metric, pool, "bytes");
        require(stats.count(metric, pool), tally(counts, metric, pool), metric, pool, "blocks");
      }
    }
    boolean same =
        stats.pendingByStream().equals(pending)
            && stats.deviceAllocations() == created
            && stats.deviceFrees() == destroyed
            && stats.steals() == stolen
            && stats.outOfMemories() == failed
            && stats.leaks() == 0;
    if (!same) {
      throw violation(Check.FIGURES, "events or pending bytes:", stats.pendingByStream(), pending);
    }
    for (DeviceStream stream : streams) {
      if (stream.timeline().completed() > driver.byId(stream.id()).completed()) {
        throw violation(Check.FIGURES, stream, "is ahead of the device");
      }
    }
  }

  private static void require(
      MemoryStats.Counter told, Tally counted, Metric metric, Pool pool, String unit) {
    if (told.current() != counted.current
        || told.peak() != counted.peak
        || told.totalIn() != counted.in
        || told.totalOut() != counted.out) {
      throw violation(Check.FIGURES, metric, pool, unit, told, "not", counted.counter());
    }
  }

  /** After the close nothing is left, whatever was open. */
  private void end() {
    while (mine.size() > MOST_OPEN / 2) {
      close();
    }
    for (Mine each : mine) {
      each.views.forEach(HostView::close);
      each.held.state = BlockInfo.State.PENDING; // Device.close closes it
    }
    device.close();
    if (!byHandle.isEmpty() || driver.allocated() != 0) {
      throw violation(Check.LOST_BLOCK, byHandle.size(), "blocks were not given back at the end");
    }
  }
}
