package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.script.Script;
import dev.metalstreams.script.Violation;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * An encode vouches for being alone exactly while at most one worker stream is live, and then it
 * is: the scripted driver notes every encode beside a sole one. Broken gates, the prior system's
 * among them, are caught by the same checks.
 */
@Timeout(60)
class EncodeGateTest {
  private static final int SOLE = Driver.ENCODE_SOLE;
  private static final int DEFAULT = Driver.ENCODE_DEFAULT;
  private static final Graph PRODUCT =
      Graph.build(
          g ->
              g.output(
                  "y", g.matmul(g.input("a", DType.F32, 2, 2), g.input("b", DType.F32, 2, 2))));

  /** A gate of the test's own, and housekeeping when the test does it. */
  private static final class WithGate extends Parts {
    private final EncodeGate gate;

    WithGate(EncodeGate gate) {
      this.gate = gate;
    }

    @Override
    EncodeGate encodeGate() {
      return gate;
    }

    @Override
    boolean completionThread() {
      return false;
    }
  }

  /** A device on a gate, and a product to encode. */
  static final class Rig implements AutoCloseable {
    final Script script = Script.immediate();
    final Device device;
    final StreamPool pool;
    final Executable product;
    private final CountDownLatch inside = new CountDownLatch(1);
    private final CountDownLatch leave = new CountDownLatch(1);

    Rig(EncodeGate gate) {
      device =
          Device.builder()
              .driver(script.provider())
              .debug(true)
              .parts(new WithGate(gate))
              .set(Settings.Key.COMMIT_IDLE, "0")
              .open();
      pool = device.streams();
      product = device.compile(PRODUCT);
    }

    /** Encodes a product on a stream; the flags are the driver's to tell. */
    void encode(DeviceStream stream) {
      List<Tensor> tensors =
          Stream.generate(() -> device.empty(stream, DType.F32, Shape.of(2, 2))).limit(3).toList();
      product.runInto(stream, tensors.subList(0, 2), tensors.subList(2, 3));
      tensors.forEach(Tensor::close);
    }

    /** The same on the calling thread's stream. */
    DeviceStream encode() {
      encode(pool.current());
      return pool.current();
    }

    /** A thread that encodes once on its own stream and is over. */
    DeviceStream encodeInAnotherThread() throws Exception {
      Background<DeviceStream> other = Background.call(this::encode);
      DeviceStream stream = other.get();
      other.thread().join();
      return stream;
    }

    /** Keeps the next encode inside the driver until {@link #letGo}. */
    void keepTheNextInside() {
      AtomicBoolean first = new AtomicBoolean(true);
      script.intercept(
          "encodeExecutable",
          () -> {
            if (first.compareAndSet(true, false)) {
              inside.countDown();
              awaitQuietly(leave);
            }
          });
    }

    void untilInside() {
      awaitQuietly(inside);
    }

    void letGo() {
      leave.countDown();
    }

    List<Integer> flags(DeviceStream stream) {
      return script.encodeFlags(stream.id());
    }

    void check() {
      assertThat(script.violations()).as("beside a sole encode").isEmpty();
    }

    @Override
    public void close() {
      letGo();
      device.close();
    }

    private static void awaitQuietly(CountDownLatch latch) {
      try {
        latch.await();
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    }
  }

  interface Check {
    void on(Rig rig) throws Exception;
  }

  // ---- when

  private static void aThreadThatCameAndWentChangesNothingForGood(Rig rig) throws Exception {
    DeviceStream mine = rig.encode();
    CountDownLatch leave = new CountDownLatch(1);
    CountDownLatch live = new CountDownLatch(1);
    Background<Boolean> other =
        Background.run(
            () -> {
              rig.encode();
              live.countDown();
              leave.await();
            });
    live.await();
    rig.encode();
    DeviceStream second = rig.encodeInAnotherThread();
    rig.encode();
    assertThat(rig.flags(mine)).as("one worker, then two").containsExactly(SOLE, SOLE, DEFAULT);
    assertThat(rig.flags(second)).containsExactly(DEFAULT);
    assertThat(rig.product.path()).isEqualTo(MatmulPath.GRAPH);
    rig.device.tick();
    rig.device.tick(); // nothing was encoded on it since the last one
    rig.encode();
    assertThat(rig.flags(mine)).as("one worker again").endsWith(SOLE);
    assertThat(rig.product.path()).isEqualTo(MatmulPath.NDARRAY);
    leave.countDown();
    other.get();
    rig.check();
  }

  // ---- the transitions

  /** The first worker is inside the driver with a sole encode when the second comes. */
  private static void aSecondStreamWaitsForTheSoleEncodeUnderWay(Rig rig) throws Exception {
    rig.keepTheNextInside();
    Background<DeviceStream> first = Background.call(rig::encode);
    rig.untilInside();
    Background<DeviceStream> second = Background.call(rig::encode).untilParked();
    boolean early = second.over();
    rig.letGo();
    assertThat(rig.flags(first.get())).containsExactly(SOLE);
    assertThat(rig.flags(second.get())).containsExactly(DEFAULT);
    rig.check();
    assertThat(early).as("encoded beside the sole encode").isFalse();
  }

  /** A stream that no thread has is being encoded on when only one worker is left. */
  private static void aSoleEncodeWaitsForThoseThatWereNotCounted(Rig rig) throws Exception {
    DeviceStream one = rig.pool.stream(1);
    DeviceStream two = rig.pool.stream(2);
    rig.encode(one);
    rig.encode(two); // many, from here on
    rig.keepTheNextInside();
    Background<Boolean> late = Background.run(() -> rig.encode(two));
    rig.untilInside();
    for (int i = 0; i < 3; i++) {
      rig.device.tick(); // finds nobody that uses either
    }
    Background<Boolean> beside = Background.run(() -> rig.encode(one));
    beside.get(Duration.ofSeconds(30));
    rig.check();
    rig.letGo();
    late.get();
    for (int i = 0; i < 3; i++) {
      rig.device.tick();
    }
    rig.encode(one);
    assertThat(rig.flags(one)).containsExactly(SOLE, DEFAULT, SOLE);
    assertThat(rig.flags(two)).containsExactly(DEFAULT, DEFAULT);
    rig.check();
  }

  /** The owner's stream and one worker's are few: both are sole, one after the other. */
  private static void theOwnerAndOneWorkerTakeTurns(Rig rig) throws Exception {
    rig.keepTheNextInside();
    Background<DeviceStream> worker = Background.call(rig::encode);
    rig.untilInside();
    DeviceStream zero = rig.pool.stream(0);
    Background<Boolean> owner = Background.run(() -> rig.encode(zero)).untilParked();
    boolean early = owner.over();
    rig.letGo();
    owner.get();
    assertThat(rig.flags(worker.get())).containsExactly(SOLE);
    assertThat(rig.flags(zero)).containsExactly(SOLE);
    rig.check();
    assertThat(early).as("encoded beside the sole encode").isFalse();
  }

  // ---- broken gates

  /** Once there were two, there are two for ever: the prior system's defect. */
  private static final class Sticky extends EncodeGate {
    @Override
    void departed() {}
  }

  /** Looks how many streams are live, and encodes afterwards. */
  private static final class LooksThenEncodes extends EncodeGate {
    @Override
    int enter() {
      return few() ? SOLE : SHARED;
    }

    @Override
    void leave(int found) {}
  }

  /** Takes a stream whose lock is held for one that nobody encodes on. */
  private static final class ForgetsThoseInside extends EncodeGate {
    @Override
    boolean allStreamsFree() {
      return true;
    }
  }

  private static Arguments pair(
      String name, Supplier<EncodeGate> broken, String what, Check check, String symptom) {
    return Arguments.argumentSet(name + ": " + what, broken, check, symptom);
  }

  static Stream<Arguments> twins() {
    return Stream.of(
        pair(
            "sticky",
            Sticky::new,
            "a thread that came and went changes nothing for good",
            EncodeGateTest::aThreadThatCameAndWentChangesNothingForGood,
            "one worker again"),
        pair(
            "looks, then encodes",
            LooksThenEncodes::new,
            "a second stream waits for the sole encode under way",
            EncodeGateTest::aSecondStreamWaitsForTheSoleEncodeUnderWay,
            "beside"),
        pair(
            "looks, then encodes",
            LooksThenEncodes::new,
            "the owner and one worker take turns",
            EncodeGateTest::theOwnerAndOneWorkerTakeTurns,
            "beside"),
        pair(
            "forgets those inside",
            ForgetsThoseInside::new,
            "a sole encode waits for those that were not counted",
            EncodeGateTest::aSoleEncodeWaitsForThoseThatWereNotCounted,
            "beside"));
  }

  @ParameterizedTest
  @MethodSource("twins")
  void theShippedGatePasses(Supplier<EncodeGate> broken, Check check, String symptom)
      throws Exception {
    try (Rig rig = new Rig(new EncodeGate())) {
      check.on(rig);
    }
  }

  @ParameterizedTest
  @MethodSource("twins")
  void theBrokenGateIsCaught(Supplier<EncodeGate> broken, Check check, String symptom) {
    try (Rig rig = new Rig(broken.get())) {
      assertThatThrownBy(() -> check.on(rig))
          .isInstanceOf(AssertionError.class)
          .hasMessageContaining(symptom);
    }
  }

  // ---- who counts

  @Test
  void leasesCount() {
    try (Rig rig = new Rig(new EncodeGate())) {
      Lease one = rig.pool.lease();
      rig.encode(one.stream());
      Lease two = rig.pool.lease();
      rig.encode(one.stream());
      DeviceStream stream = one.stream();
      rig.encode(two.stream());
      two.close(); // its end is known at once, whatever was encoded since the last look
      rig.device.tick();
      rig.encode(stream);
      assertThat(rig.flags(stream)).containsExactly(SOLE, DEFAULT, SOLE);
      one.close();
    }
  }

  /** Before it has encoded anything, whether its stream is new or not. */
  @Test
  void aThreadCountsFromTheMomentItHasAStream() throws Exception {
    for (boolean exists : new boolean[] {false, true}) {
      try (Rig rig = new Rig(new EncodeGate())) {
        if (exists) {
          rig.pool.stream(1);
        }
        CountDownLatch leave = new CountDownLatch(1);
        Background<Boolean> idle =
            Background.run(
                    () -> {
                      assertThat(rig.pool.current().index()).isEqualTo(1);
                      leave.await();
                    })
                .untilParked();
        assertThat(rig.flags(rig.encodeInAnotherThread())).containsExactly(DEFAULT);
        leave.countDown();
        idle.get();
      }
    }
  }

  @Test
  void theOwnerIsNoWorker() throws Exception {
    try (Rig rig = new Rig(new EncodeGate())) {
      rig.pool.current();
      rig.pool.releaseCurrentThread();
      rig.encode(); // on a stream that exists already
      assertThat(rig.flags(rig.encodeInAnotherThread())).containsExactly(SOLE);
    }
  }

  @Test
  void aClosedDeviceIsNotAskedAnyMore() {
    List<StreamPool> left = new ArrayList<>();
    EncodeGate gate =
        new EncodeGate() {
          @Override
          void remove(StreamPool pool) {
            left.add(pool);
            super.remove(pool);
          }
        };
    try (Rig rig = new Rig(gate)) {
      rig.device.close();
      assertThat(left).containsExactly(rig.pool);
    }
  }

  // ---- the gate alone

  /** An encode that is counted begins just before the mode becomes few. */
  @Test
  void aSoleEncodeWaitsForWhatWasCountedWhileTheGateSettled() throws Exception {
    EncodeGate gate =
        new EncodeGate() {
          @Override
          boolean allStreamsFree() {
            assertThat(enter()).isEqualTo(COUNTED);
            return true;
          }
        };
    gate.arrived();
    gate.arrived();
    gate.departed();
    gate.settle();
    assertThat(gate.few()).isTrue();
    Background<Integer> sole = Background.call(gate::enter).untilParked();
    assertThat(sole.over()).isFalse();
    gate.leave(EncodeGate.COUNTED);
    assertThat(sole.get()).isEqualTo(EncodeGate.SOLE);
    gate.leave(EncodeGate.SOLE);
  }

  @Test
  void anyThreadMaySettle() throws Exception {
    EncodeGate gate = new EncodeGate();
    gate.arrived();
    gate.arrived();
    gate.departed();
    gate.settle();
    assertThat(gate.few()).isTrue();
    gate.arrived();
    assertThat(gate.few()).isFalse();
    gate.departed();
    Background.run(gate::settle).get();
    assertThat(gate.few()).isTrue();
  }

  @Test
  void ofManyThatWantToBeAloneOneIs() throws Exception {
    EncodeGate gate = new EncodeGate();
    AtomicInteger inside = new AtomicInteger();
    List<Background<Boolean>> threads = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      threads.add(
          Background.run(
              () -> {
                for (int round = 0; round < 5000; round++) {
                  int found = gate.enter();
                  assertThat(found).isEqualTo(EncodeGate.SOLE);
                  assertThat(inside.incrementAndGet()).as("inside").isEqualTo(1);
                  inside.decrementAndGet();
                  gate.leave(found);
                }
              }));
    }
    for (Background<Boolean> each : threads) {
      each.get();
    }
  }

  @Test
  void aThreadThatChangesItsStreamIsOneWorker() throws Exception {
    try (Rig rig = new Rig(new EncodeGate())) {
      Background.run(
              () -> {
                for (int index = 1; index <= 4; index++) {
                  rig.pool.setCurrent(rig.pool.stream(index));
                  rig.encode();
                }
                rig.pool.releaseCurrentThread();
                rig.encode();
              })
          .get();
      for (int index = 1; index <= 4; index++) {
        assertThat(rig.flags(rig.pool.stream(index))).containsOnly(SOLE);
      }
    }
  }

  @Test
  void streamsThatNoThreadHasCountWhileTheyAreUsed() {
    try (Rig rig = new Rig(new EncodeGate())) {
      DeviceStream one = rig.pool.stream(1);
      DeviceStream two = rig.pool.stream(2);
      rig.encode(one);
      rig.encode(two);
      rig.device.tick();
      rig.encode(one); // both were used since the look before
      rig.device.tick(); // two was not
      rig.encode(one);
      assertThat(rig.flags(one)).containsExactly(SOLE, DEFAULT, SOLE);
      assertThat(rig.flags(two)).containsExactly(DEFAULT);
    }
  }

  @Test
  void streamsOfAllDevicesCountUntilTheirDeviceCloses() {
    EncodeGate gate = new EncodeGate();
    try (Rig rig = new Rig(gate)) {
      DeviceStream mine = rig.pool.stream(1);
      rig.encode(mine);
      try (Rig other = new Rig(gate)) {
        other.encode(other.pool.stream(1));
        rig.encode(mine);
        assertThat(other.flags(other.pool.stream(1))).containsExactly(DEFAULT);
      }
      rig.device.tick();
      rig.encode(mine);
      assertThat(rig.flags(mine)).containsExactly(SOLE, DEFAULT, SOLE);
    }
  }

  /** What the driver refuses leaves the gate as a success does. */
  @Test
  void aRefusedEncodeLeavesTheGate() {
    try (Rig rig = new Rig(new EncodeGate())) {
      rig.script.refuse("encodeExecutable", 1, dev.metalstreams.driver.Status.OUT_OF_MEMORY);
      assertThatThrownBy(rig::encode).isInstanceOf(OutOfDeviceMemoryException.class);
      assertThat(rig.flags(rig.encode())).containsExactly(SOLE);
    }
  }

  /** Many threads that come and go, one of them in and out of being alone: never beside a sole. */
  @Test
  @Tag("load")
  void underLoadASoleEncodeIsAlone() throws Exception {
    try (Rig rig = new Rig(new EncodeGate())) {
      AtomicBoolean over = new AtomicBoolean();
      Background<Boolean> housekeeping =
          Background.run(
              () -> {
                while (!over.get()) {
                  rig.device.tick();
                }
              });
      Background<Boolean> steady =
          Background.run(
              () -> {
                while (!over.get()) {
                  rig.encode();
                }
              });
      for (int i = 0; i < 300; i++) {
        rig.encodeInAnotherThread();
        rig.encode(rig.pool.stream(0));
      }
      over.set(true);
      steady.get();
      housekeeping.get();
      int[] seen =
          rig.pool.all().stream()
              .flatMap(each -> rig.flags(each).stream())
              .mapToInt(f -> f)
              .toArray();
      assertThat(Arrays.stream(seen).distinct().toArray())
          .as("both kinds were met")
          .containsExactlyInAnyOrder(SOLE, DEFAULT);
      assertThat(rig.script.violations()).extracting(Violation::rule).isEmpty();
    }
  }
}
