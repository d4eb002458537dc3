package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Tests of tests: each check passes on the system that ships, and fails on a twin that is broken in
 * the way which the check is there to see. A check waits for at most a given patience, which is
 * long on the shipped system, where it is never used up, and short on a twin, where it is.
 */
@Timeout(60)
class BrokenTwinsTest {
  private static final Logger LOGGER = Logger.getLogger("dev.metalstreams");
  private static final Duration LONG = Duration.ofSeconds(30);
  private static final Duration SHORT = Duration.ofMillis(50);

  /** Symptoms of what never comes: only for them it makes sense to be impatient. */
  private static final Set<String> SILENT = Set.of("hangs", "future");

  /** One thing that must hold. */
  interface Check {
    void on(Script script, Device device, Duration patience) throws Exception;
  }

  /** A way to be broken: parts that are replaced, and a fault that is planted into the device. */
  record Twin(String name, Parts parts, boolean losesSignals) {
    @Override
    public String toString() {
      return name;
    }
  }

  private static Twin allocator(String name, java.util.function.Function<Device, Allocator> make) {
    return new Twin(
        name,
        new Parts() {
          @Override
          Allocator allocator(Device device) {
            return make.apply(device);
          }
        },
        false);
  }

  /** Makes a timeline out of what a stream gives it. */
  private interface TimelineMaker {
    Timeline make(
        Driver driver,
        long queue,
        String name,
        int streamIndex,
        long watchdogNanos,
        Polling polling);
  }

  private static Twin timeline(String name, TimelineMaker maker) {
    return new Twin(
        name,
        new Parts() {
          @Override
          Timeline timeline(
              Driver driver,
              long queue,
              String name,
              int streamIndex,
              long watchdogNanos,
              Polling polling) {
            return maker.make(driver, queue, name, streamIndex, watchdogNanos, polling);
          }
        },
        false);
  }

  // ---- early reuse

  /** Recycles a closed block on its stream without waiting for the other streams that use it. */
  private static final class RecyclesAtOnce extends Allocator {
    RecyclesAtOnce(Device device) {
      super(device);
    }

    @Override
    boolean reusable(Uses uses) {
      return true;
    }
  }

  /** Gives closed memory back, or to another stream, without waiting for anyone. */
  private static final class GivesBackAtOnce extends Allocator {
    GivesBackAtOnce(Device device) {
      super(device);
    }

    @Override
    boolean unused(Uses uses) {
      return true;
    }

    @Override
    boolean keeps(Block block) {
      return false;
    }
  }

  /** Lets the CPU write memory that the device still reads. */
  private static final class ShowsItToTheCpuAtOnce extends Allocator {
    ShowsItToTheCpuAtOnce(Device device) {
      super(device);
    }

    @Override
    void awaitHostSafe(Uses uses) {}
  }

  /** Takes the fence of a recorded stream when it is recorded, and not at the close. */
  private static final class FencesAtTheRecord extends Allocator {
    FencesAtTheRecord(Device device) {
      super(device);
    }

    @Override
    void record(Uses uses, DeviceStream stream) {
      uses.record(stream);
      uses.close();
    }

    @Override
    void fence(Uses uses) {}
  }

  /** Another stream reads a block that is closed; the next tenant on its own stream writes it. */
  private static void blockIsNotReusedUnderAnotherStream(
      Script script, Device device, Duration patience) {
    DeviceStream owner = device.streams().stream(1);
    DeviceStream reader = device.streams().stream(2);
    DeviceBuffer block = device.allocate(8, owner);
    DeviceBuffer result = device.allocate(8, reader);
    CoreTest.write(block, 5);
    reader.copy(block, 0, result, 0, 8);
    reader.flush();
    block.close();
    DeviceBuffer next = device.allocate(8, owner);
    owner.fill(next, (byte) 99);
    owner.flush();
    script.run(owner.id()); // the owner's stream is faster
    script.runAll();
    assertThat(CoreTest.peek(result)).as("what the other stream read").isEqualTo((byte) 5);
  }

  /** The stream reads a block that is closed; the next tenant writes it with the CPU. */
  private static void blockIsNotWrittenByTheCpuUnderTheDevice(
      Script script, Device device, Duration patience) throws Exception {
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer block = device.allocate(8, stream);
    DeviceBuffer result = device.allocate(8, stream);
    CoreTest.write(block, 5);
    stream.copy(block, 0, result, 0, 8);
    stream.flush();
    block.close();
    DeviceBuffer next = device.allocate(8, stream);
    Background<Boolean> writer = Background.run(() -> CoreTest.write(next, 99)).untilParked();
    script.runAll();
    writer.get(patience);
    assertThat(CoreTest.peek(result)).as("what the device read").isEqualTo((byte) 5);
  }

  /** A buffer is closed while the device uses it. */
  private static void memoryIsNotEndedUnderTheDevice(
      Script script, Device device, Duration patience) {
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer block = device.allocate(8, stream);
    stream.fill(block, (byte) 1);
    stream.flush();
    block.close();
    assertThat(script.violations()).isEmpty();
  }

  /** Work that the library does not see uses a recorded block until after the close. */
  private static void recordedBlockIsKeptForWorkUpToTheClose(
      Script script, Device device, Duration patience) {
    DeviceStream owner = device.streams().stream(1);
    DeviceStream foreign = device.streams().stream(2);
    DeviceBuffer block = device.allocate(8, owner);
    DeviceBuffer unrelated = device.allocate(8, foreign);
    block.recordStream(foreign);
    foreign.fill(unrelated, (byte) 1); // stands for work that uses the block unseen
    foreign.flush();
    long handle = block.handle();
    block.close();
    assertThat(device.allocate(8, owner).handle())
        .as("kept for the stream that was recorded")
        .isNotEqualTo(handle);
  }

  // ---- lost signal, lost wake-up

  /** Tells nobody that a value is completed. */
  private static final class WakesNobody extends Timeline {
    WakesNobody(
        Driver driver,
        long queue,
        String name,
        int streamIndex,
        long watchdogNanos,
        Polling polling) {
      super(driver, queue, name, streamIndex, watchdogNanos, polling);
    }

    @Override
    void wakeReached() {}
  }

  /** Drops the completion of a failure, so that its value is never counted. */
  private static final class DropsFailures extends Timeline {
    DropsFailures(
        Driver driver,
        long queue,
        String name,
        int streamIndex,
        long watchdogNanos,
        Polling polling) {
      super(driver, queue, name, streamIndex, watchdogNanos, polling);
    }

    @Override
    void complete(long value, GpuTimes times, @Nullable StreamFailedException failure) {
      if (failure == null) {
        super.complete(value, times, null);
      }
    }
  }

  /** Somebody waits before the work is done. */
  private static void waiterIsWoken(Script script, Device device, Duration patience)
      throws Exception {
    DeviceStream stream = device.streams().stream(1);
    stream.fill(device.allocate(8, stream), (byte) 1);
    stream.flush();
    DeviceEvent event = stream.record();
    Background<Boolean> thread = Background.run(event::await).untilParked();
    Background<Boolean> virtual = Background.runVirtually(event::await).untilParked();
    script.runAll();
    thread.get(patience);
    virtual.get(patience);
  }

  /** Somebody waits for work that fails. */
  private static void waiterLearnsOfAFailure(Script script, Device device, Duration patience)
      throws Exception {
    DeviceStream stream = device.streams().stream(1);
    stream.fill(device.allocate(8, stream), (byte) 1);
    stream.flush();
    DeviceEvent event = stream.record();
    Background<Boolean> waiter =
        Background.run(
            () ->
                assertThatThrownBy(() -> event.await()).isInstanceOf(StreamFailedException.class));
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    waiter.get(patience);
  }

  // ---- early return

  /**
   * Whoever synchronizes takes the work that is under way, so the second finds none and returns:
   * the prior system's defect.
   */
  private static final class GivesWorkToTheFirstWaiter extends Timeline {
    private final AtomicLong taken = new AtomicLong();

    GivesWorkToTheFirstWaiter(
        Driver driver,
        long queue,
        String name,
        int streamIndex,
        long watchdogNanos,
        Polling polling) {
      super(driver, queue, name, streamIndex, watchdogNanos, polling);
    }

    @Override
    void awaitReached(long value, long timeoutNanos) {
      if (taken.getAndAccumulate(value, Math::max) < value) {
        super.awaitReached(value, timeoutNanos);
      }
    }
  }

  /** Counts work as completed when it was submitted. */
  private static final class CompletesAtTheCommit extends Timeline {
    CompletesAtTheCommit(
        Driver driver,
        long queue,
        String name,
        int streamIndex,
        long watchdogNanos,
        Polling polling) {
      super(driver, queue, name, streamIndex, watchdogNanos, polling);
    }

    @Override
    boolean reached(long value) {
      return submitted() >= value;
    }
  }

  /** Two threads synchronize one stream; both must see its work when they return. */
  private static void secondSynchronizerWaitsToo(Script script, Device device, Duration patience)
      throws Exception {
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    Background<Byte> first =
        Background.call(
                () -> {
                  stream.synchronize();
                  return CoreTest.peek(buffer);
                })
            .untilParked();
    Background<Byte> second =
        Background.call(
                () -> {
                  device.synchronize();
                  return CoreTest.peek(buffer);
                })
            .untilParked();
    script.runAll();
    assertThat(first.get(patience)).as("seen by the first").isEqualTo((byte) 1);
    assertThat(second.get(patience)).as("seen by the second").isEqualTo((byte) 1);
  }

  // ---- events of the host

  private static Twin hostEvents(
      String name, java.util.function.Function<Device, HostEvents> make) {
    return new Twin(
        name,
        new Parts() {
          @Override
          HostEvents hostEvents(Device device) {
            return make.apply(device);
          }
        },
        false);
  }

  /** A signal wakes the one who has waited longest. */
  private static final class WakesOne extends HostEvents {
    WakesOne(Device device) {
      super(device);
    }

    @Override
    HostTimeline timeline(long id, long queue, String name, long watchdogNanos, Polling polling) {
      return new HostTimeline(this, id, driver(), queue, name, watchdogNanos, polling) {
        private boolean woken;

        @Override
        synchronized void whenReached(long value, Runnable action) {
          super.whenReached(
              value,
              () -> {
                if (!woken) {
                  woken = true;
                  action.run();
                }
              });
        }
      };
    }
  }

  /** A signal that comes before anybody waits is for nobody. */
  private static final class ForgetsEarlySignals extends HostEvents {
    ForgetsEarlySignals(Device device) {
      super(device);
    }

    @Override
    HostTimeline timeline(long id, long queue, String name, long watchdogNanos, Polling polling) {
      return new HostTimeline(this, id, driver(), queue, name, watchdogNanos, polling) {
        private boolean held;

        @Override
        boolean holdQueue() { // by whoever encodes a wait, or signals
          held = true;
          return super.holdQueue();
        }

        @Override
        void signal(long value, @Nullable String failure, @Nullable Throwable cause) {
          if (held) {
            super.signal(value, failure, cause);
          }
        }
      };
    }
  }

  /** Says that an event has failed, and not why. */
  private static final class LosesTheCause extends HostEvents {
    LosesTheCause(Device device) {
      super(device);
    }

    @Override
    HostTimeline timeline(long id, long queue, String name, long watchdogNanos, Polling polling) {
      return new HostTimeline(this, id, driver(), queue, name, watchdogNanos, polling) {
        @Override
        void signal(long value, @Nullable String failure, @Nullable Throwable cause) {
          super.signal(value, failure, null);
        }
      };
    }
  }

  /** Takes a queue that has failed for the next event. */
  private static final class UsesFailedQueuesAgain extends HostEvents {
    UsesFailedQueuesAgain(Device device) {
      super(device);
    }

    @Override
    void ended(HostPromise promise, boolean succeeded) {
      super.ended(promise, true);
    }

    @Override
    void failed(HostTimeline timeline) {}
  }

  /** Closes the device with promises that nobody will keep. */
  private static final class WaitsForSignalsAtTheClose extends HostEvents {
    WaitsForSignalsAtTheClose(Device device) {
      super(device);
    }

    @Override
    void close(DeviceClosedException over) {}
  }

  private static void submitBehind(DeviceStream stream, DeviceEvent event) {
    stream.waitFor(event);
    stream.fill(stream.device().allocate(8, stream), (byte) 1);
    stream.flush();
  }

  /** Streams, threads and futures wait for one event. */
  private static void aSignalLetsGoOfAll(Script script, Device device, Duration patience)
      throws Exception {
    HostEvent event = device.hostEvent();
    DeviceStream first = device.streams().stream(1);
    DeviceStream second = device.streams().stream(2);
    submitBehind(first, event);
    submitBehind(second, event);
    Background<Boolean> thread = Background.run(event::await).untilParked();
    CompletableFuture<?> one = event.toFuture();
    CompletableFuture<?> other = event.toFuture();
    event.signal();
    assertThat(script.runnable()).containsExactlyInAnyOrder(first.id(), second.id());
    thread.get(LONG);
    assertThat(one).as("the first future").succeedsWithin(patience);
    assertThat(other).as("the second future").succeedsWithin(patience);
  }

  /** A signal before the wait. */
  private static void aSignalIsKept(Script script, Device device, Duration patience) {
    HostEvent event = device.hostEvent();
    event.signal();
    DeviceStream stream = device.streams().stream(1);
    submitBehind(stream, event);
    assertThat(script.runnable()).as("what may run").containsExactly(stream.id());
  }

  /** Work behind an event that fails. */
  private static void aFailureHasItsCause(Script script, Device device, Duration patience) {
    HostEvent event = device.hostEvent();
    DeviceStream stream = device.streams().stream(1);
    submitBehind(stream, event);
    event.fail(new IllegalStateException("the disk is full"));
    script.runAll();
    assertThatThrownBy(stream::synchronize)
        .isInstanceOf(StreamFailedException.class)
        .hasRootCauseInstanceOf(IllegalStateException.class);
  }

  /** An event after one that has failed. */
  private static void aFailureStrikesNoOtherEvent(Script script, Device device, Duration patience) {
    HostEvent bad = device.hostEvent();
    bad.fail(new IllegalStateException("the disk is full"));
    assertThatThrownBy(bad::await).isInstanceOf(StreamFailedException.class);
    HostEvent good = device.hostEvent();
    DeviceStream stream = device.streams().stream(1);
    assertThatCode(
            () -> {
              submitBehind(stream, good);
              good.signal();
              script.runAll();
              stream.synchronize(patience);
            })
        .as("the work behind the next")
        .doesNotThrowAnyException();
  }

  /** A close with work behind an event that nobody signals. */
  private static void aCloseDoesNotWaitForASignal(Script script, Device device, Duration patience)
      throws Exception {
    HostEvent event = device.hostEvent();
    submitBehind(device.streams().stream(1), event);
    script.letRun();
    assertThatCode(device::close).as("the close").doesNotThrowAnyException();
  }

  // ---- the table

  private static final Twin SHIPPED = new Twin("shipped", new Parts(), false);

  private static Arguments pair(Twin twin, String what, Check check, String symptom) {
    return Arguments.of(twin, what, check, symptom);
  }

  static Stream<Arguments> twins() {
    return Stream.of(
        pair(
            allocator("recycles at once", RecyclesAtOnce::new),
            "a block is not reused under another stream",
            BrokenTwinsTest::blockIsNotReusedUnderAnotherStream,
            "what the other stream read"),
        pair(
            allocator("shows memory to the CPU at once", ShowsItToTheCpuAtOnce::new),
            "a block is not written by the CPU under the device",
            BrokenTwinsTest::blockIsNotWrittenByTheCpuUnderTheDevice,
            "what the device read"),
        pair(
            allocator("gives back at once", GivesBackAtOnce::new),
            "memory is not ended under the device",
            BrokenTwinsTest::memoryIsNotEndedUnderTheDevice,
            "DESTROYED_IN_USE"),
        pair(
            allocator("fences at the record", FencesAtTheRecord::new),
            "a recorded block is kept for work up to the close",
            BrokenTwinsTest::recordedBlockIsKeptForWorkUpToTheClose,
            "kept for the stream"),
        pair(
            timeline("wakes nobody", WakesNobody::new),
            "a waiter is woken",
            BrokenTwinsTest::waiterIsWoken,
            "hangs"),
        pair(
            new Twin("a signal is lost", new Parts(), true),
            "a waiter is woken",
            BrokenTwinsTest::waiterIsWoken,
            "hangs"),
        pair(
            timeline("drops failures", DropsFailures::new),
            "a waiter learns of a failure",
            BrokenTwinsTest::waiterLearnsOfAFailure,
            "hangs"),
        pair(
            timeline("gives work to the first waiter", GivesWorkToTheFirstWaiter::new),
            "the second synchronizer waits too",
            BrokenTwinsTest::secondSynchronizerWaitsToo,
            "seen by the second"),
        pair(
            timeline("completes at the commit", CompletesAtTheCommit::new),
            "the second synchronizer waits too",
            BrokenTwinsTest::secondSynchronizerWaitsToo,
            "seen by the"),
        pair(
            hostEvents("wakes one", WakesOne::new),
            "a signal lets go of all",
            BrokenTwinsTest::aSignalLetsGoOfAll,
            "future"),
        pair(
            hostEvents("forgets early signals", ForgetsEarlySignals::new),
            "a signal is kept",
            BrokenTwinsTest::aSignalIsKept,
            "what may run"),
        pair(
            hostEvents("loses the cause", LosesTheCause::new),
            "a failure has its cause",
            BrokenTwinsTest::aFailureHasItsCause,
            "root cause"),
        pair(
            hostEvents("uses failed queues again", UsesFailedQueuesAgain::new),
            "a failure strikes no other event",
            BrokenTwinsTest::aFailureStrikesNoOtherEvent,
            "the work behind the next"),
        pair(
            hostEvents("waits for signals at the close", WaitsForSignalsAtTheClose::new),
            "a close does not wait for a signal",
            BrokenTwinsTest::aCloseDoesNotWaitForASignal,
            "the close"));
  }

  @ParameterizedTest(name = "{1}")
  @MethodSource("twins")
  void theShippedSystemPasses(Twin twin, String what, Check check, String symptom)
      throws Exception {
    run(SHIPPED, check, LONG, LONG);
  }

  @ParameterizedTest(name = "{0}: {1}")
  @MethodSource("twins")
  void theTwinIsCaught(Twin twin, String what, Check check, String symptom) {
    Duration patience = SILENT.contains(symptom) ? SHORT : LONG;
    assertThatThrownBy(() -> run(twin, check, patience, SHORT))
        .as(twin + " must break: " + what)
        .isInstanceOf(AssertionError.class)
        .hasMessageContaining(symptom);
  }

  private static void run(Twin twin, Check check, Duration patience, Duration closing)
      throws Exception {
    Script script = Script.manual();
    Level level = LOGGER.getLevel();
    LOGGER.setLevel(Level.OFF); // broken twins are loud
    Device device =
        Device.builder()
            .driver(script.provider())
            .debug(true)
            .parts(twin.parts)
            .closeTimeout(closing)
            .watchdog(Duration.ZERO) // a wait that is not ended hangs
            .set(Settings.Key.COMMIT_IDLE, "0")
            .open();
    try {
      if (twin.losesSignals) {
        script.loseSignal(device.streams().stream(1).id());
      }
      check.on(script, device, patience);
    } finally {
      script.letRun();
      closeQuietly(device);
      LOGGER.setLevel(level);
    }
    assertThat(script.violations()).isEmpty();
  }

  private static void closeQuietly(Device device) {
    try {
      device.close();
    } catch (MetalStreamsException e) {
      LOGGER.log(Level.FINE, "a broken twin need not be able to close: the check has spoken", e);
    }
  }
}
