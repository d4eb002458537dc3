package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Threads that allocate, use and close on shared streams, under pressure, while others complete
 * work, trim and read figures. Nobody is ever given what somebody else has, and in the end
 * everything adds up.
 */
@Timeout(60)
class MemoryStressTest {
  private static final int THREADS = 4;
  private static final int STREAMS = 2;
  private static final int OPERATIONS = 20_000;
  private static final long LIMIT = 1 << 20;

  /** Who has which memory, by handle; the device's own idea of it does not count here. */
  private static final class Owners implements ModelDriver.Watcher {
    private final ConcurrentHashMap<Long, Thread> owners = new ConcurrentHashMap<>();

    void claim(DeviceBuffer buffer) {
      Thread other = owners.putIfAbsent(buffer.handle(), Thread.currentThread());
      assertThat(other).as("owner of memory that was handed out").isNull();
    }

    void giveUp(DeviceBuffer buffer) {
      owners.remove(buffer.handle());
    }

    @Override
    public void created(ModelDriver.Buffer buffer) {}

    @Override
    public void destroyed(ModelDriver.Buffer buffer) {
      assertThat(buffer.uses).as("work on memory that is given back").isEmpty();
      assertThat(owners).as("owners").doesNotContainKey(buffer.handle);
    }

    @Override
    public long tenantOf(ModelDriver.Buffer buffer) {
      return 0;
    }

    @Override
    public void runs(ModelDriver.Use use) {}
  }

  private static void stress(StealPolicy steal, Function<Device, Allocator> allocator)
      throws Exception {
    Owners owners = new Owners();
    ModelDriver driver = new ModelDriver(owners, new SplittableRandom(7), LIMIT, LIMIT);
    Parts parts =
        new Parts() {
          @Override
          Allocator allocator(Device device) {
            return allocator.apply(device);
          }

          @Override
          boolean completionThread() {
            return false; // the device's only clock is a thread of the test
          }
        };
    Device device =
        Device.builder()
            .driver(options -> driver)
            .parts(parts)
            .steal(steal)
            .memoryRatios(0.2, 0.95)
            .debug(true)
            .open();
    List<DeviceStream> streams = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      streams.add(device.streams().stream(i));
    }
    AtomicBoolean over = new AtomicBoolean();
    Background<Boolean> clock =
        Background.run(
            () -> {
              while (!over.get()) {
                driver.advance();
                device.completions().drain(0);
                Thread.onSpinWait();
              }
            });
    Background<Boolean> trimmer =
        Background.run(
            () -> {
              while (!over.get()) {
                device.memory().trimTo(LIMIT / 8);
                assertThat(device.memory().stats().allocated()).isNotNegative();
                assertThat(device.memory().snapshot()).isNotNull();
              }
            });
    List<Background<Boolean>> workers = new ArrayList<>();
    for (int i = 0; i < THREADS; i++) {
      SplittableRandom random = new SplittableRandom(i);
      workers.add(Background.run(() -> work(device, streams, owners, random)));
    }
    try {
      for (Background<Boolean> worker : workers) {
        worker.get();
      }
    } finally {
      over.set(true);
      trimmer.get();
      clock.get();
    }
    device.memory().emptyCache();
    MemoryStats stats = device.memory().stats();
    assertThat(stats.allocated()).isZero();
    assertThat(stats.active()).isZero();
    assertThat(stats.reserved()).isZero();
    assertThat(driver.allocated()).isZero();
    assertThat(stats.allocations()).isEqualTo((long) THREADS * OPERATIONS);
    assertThat(stats.deviceFrees()).isEqualTo(stats.deviceAllocations());
    assertThat(stats.outOfMemories()).isZero();
    device.close();
  }

  private static void work(
      Device device, List<DeviceStream> streams, Owners owners, SplittableRandom random) {
    for (int i = 0; i < OPERATIONS; i++) {
      DeviceStream stream = streams.get(random.nextInt(STREAMS));
      DeviceBuffer buffer = device.allocate(1 + random.nextInt(1 << 14), stream);
      owners.claim(buffer);
      int use = random.nextInt(4);
      if (use > 0) {
        streams.get(use == 1 ? random.nextInt(STREAMS) : stream.index()).fill(buffer, (byte) 1);
      }
      owners.giveUp(buffer);
      buffer.close();
    }
  }

  @Test
  void nobodyIsGivenWhatSomebodyHas() throws Exception {
    for (StealPolicy steal : StealPolicy.values()) {
      stress(steal, Allocator::new);
    }
  }

  /** Takes a block for free that its own stream has, whoever uses it by now. */
  private static final class LooksAtTheOwner extends Allocator {
    LooksAtTheOwner(Device device) {
      super(device);
    }

    @Override
    StreamCache cache(DeviceStream stream) {
      return new StreamCache(this, stream) {
        @Override
        boolean has(BlockList list, Block block) {
          return block.uses.owner() == stream;
        }
      };
    }
  }

  @Test
  void aTrimThatLooksAtTheOwnerIsCaught() {
    assertThatThrownBy(
            () -> {
              while (true) {
                stress(StealPolicy.NEVER, LooksAtTheOwner::new);
              }
            })
        .hasMessageContaining("is not in this list");
  }
}
