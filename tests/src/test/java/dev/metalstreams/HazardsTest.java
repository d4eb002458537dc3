package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.nio.ByteOrder;
import java.nio.ReadOnlyBufferException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;

/** The race detector, case by case. Nothing runs on the device unless the test says so. */
class HazardsTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script, builder -> builder.hazards(HazardMode.DETECT));
  private final DeviceStream a = device.streams().stream(1);
  private final DeviceStream b = device.streams().stream(2);
  private final DeviceStream c = device.streams().stream(3);
  private final DeviceBuffer x = device.allocate(64, a);
  private final DeviceBuffer y = device.allocate(64, b);
  private final DeviceBuffer z = device.allocate(64, c);

  /** Must race; and what is thrown has encoded nothing. */
  private StreamRaceException races(ThrowingCallable call) {
    HazardStats before = device.hazards();
    StreamRaceException race = catchThrowableOfType(StreamRaceException.class, call);
    assertThat(race).as("the race").isNotNull();
    assertThat(device.hazards().races()).isEqualTo(before.races() + 1);
    assertThat(device.hazards().operations()).isEqualTo(before.operations());
    return race;
  }

  private static void fill(DeviceStream stream, DeviceBuffer buffer) {
    stream.fill(buffer, (byte) 1);
  }

  private static void copy(DeviceStream stream, DeviceBuffer from, DeviceBuffer to) {
    stream.copy(from, 0, to, 0, 64);
  }

  // ---- two streams

  @Test
  void readAfterWrite() {
    fill(a, x);
    StreamRaceException race = races(() -> copy(b, x, y));
    assertThat(race.earlier().operation()).isEqualTo("fill");
    assertThat(race.earlier().stream()).isEqualTo(1);
    assertThat(race.earlier().writes()).isTrue();
    assertThat(race.later().operation()).isEqualTo("copy");
    assertThat(race.later().stream()).isEqualTo(2);
    assertThat(race.later().writes()).isFalse();
    b.waitFor(a.record());
    copy(b, x, y);
    assertThat(device.hazards()).isEqualTo(new HazardStats(HazardMode.DETECT, 2, 1, 0));
  }

  @Test
  void writeAfterRead() {
    copy(a, x, z);
    races(() -> fill(b, x));
    b.waitFor(a.record());
    fill(b, x);
  }

  @Test
  void writeAfterWrite() {
    fill(a, x);
    races(() -> fill(b, x));
    b.waitFor(a.record());
    fill(b, x);
  }

  @Test
  void aReadDoesNotHideTheWriteBeforeIt() {
    fill(a, x);
    copy(a, x, z);
    assertThat(races(() -> copy(b, x, y)).earlier().writes()).isTrue();
  }

  @Test
  void readsOfManyStreamsAreAllRemembered() {
    copy(a, x, device.allocate(64, a));
    copy(b, x, y);
    b.waitFor(a.record());
    copy(c, x, z);
    c.waitFor(a.record());
    races(() -> fill(c, x));
    c.waitFor(b.record());
    fill(c, x);
  }

  @Test
  void readsDoNotRace() {
    copy(a, x, device.allocate(64, a));
    copy(b, x, y);
    copy(c, x, z);
    assertThat(device.hazards().races()).isZero();
  }

  @Test
  void oneStreamIsAnOrder() {
    fill(a, x);
    copy(a, x, y);
    fill(a, x);
    a.waitFor(a.record());
    fill(a, x);
    assertThat(device.hazards()).isEqualTo(new HazardStats(HazardMode.DETECT, 4, 0, 0));
  }

  @Test
  void rangesThatAreDisjointDoNotRace() {
    a.fill(x, 0, 32, (byte) 1);
    b.fill(x, 32, 32, (byte) 2);
    a.copy(x, 0, x, 16, 16);
    races(() -> b.copy(x, 40, x, 24, 8));
    races(() -> c.fill(x, 31, 2, (byte) 3));
    b.copy(x, 40, x, 56, 8);
  }

  @Test
  void partOfAWriteOutlastsALaterOne() {
    a.fill(x, 0, 64, (byte) 1);
    b.waitFor(a.record());
    b.fill(x, 0, 32, (byte) 2);
    c.waitFor(b.record());
    c.fill(x, (byte) 3); // after b's, and after a's, which b's came after
    DeviceStream d = device.streams().stream(4);
    StreamRaceException race = races(() -> d.fill(x, 40, 8, (byte) 4));
    assertThat(race.earlier().stream()).as("the last, which covers the others").isEqualTo(3);
  }

  @Test
  void executablesReadInputsAndWriteOutputs() {
    try (Executable exe = device.compile(layer(1, 4, 4))) {
      Tensor in = device.tensor(new float[4], 1, 4);
      Tensor w = device.tensor(new float[16], 4, 4);
      Tensor bias = device.tensor(new float[4], 4);
      Tensor out = exe.run(a, in, w, bias);
      exe.run(b, in, w, bias).close(); // both only read them
      StreamRaceException race = races(() -> b.fill(in.buffer(), (byte) 0));
      assertThat(race.earlier().operation()).isEqualTo("relu");
      assertThat(race.earlier().writes()).isFalse();
      assertThat(races(() -> copy(b, out)).earlier().writes()).isTrue();
      races(() -> exe.runInto(b, List.of(in, w, bias), List.of(out)));
    }
  }

  @Test
  void layerNormReadsThreeAndWritesOne() {
    Tensor in = device.tensor(new float[4], 1, 4);
    Tensor gamma = device.tensor(new float[4], 4);
    Tensor beta = device.tensor(new float[4], 4);
    Tensor out = device.empty(DType.F32, 1, 4);
    a.layerNorm(in, gamma, beta, 1e-5f, out);
    for (Tensor read : List.of(in, gamma, beta)) {
      copy(b, read);
      races(() -> b.fill(read.buffer(), (byte) 0));
    }
    StreamRaceException race = races(() -> copy(b, out));
    assertThat(race.earlier().operation()).isEqualTo("layerNorm");
  }

  private void copy(DeviceStream stream, Tensor from) {
    stream.copy(from.buffer(), 0, y, 0, 16);
  }

  // ---- what orders

  @Test
  void orderPassesThroughAThirdStream() {
    fill(a, x);
    b.waitFor(a.record());
    c.waitFor(b.record());
    fill(c, x);
    assertThat(device.hazards().races()).isZero();
  }

  @Test
  void anEventOrdersOnlyWhatCameBeforeIt() {
    DeviceEvent early = a.record();
    fill(a, x); // in the same command buffer that `early` waits for: a matter of luck
    b.waitFor(early);
    races(() -> fill(b, x));
  }

  @Test
  void anEventKnowsWhatItsStreamHadWaitedForThen() {
    fill(c, x);
    fill(a, y);
    DeviceEvent before = a.record();
    a.waitFor(c.record());
    DeviceEvent after = a.record();
    b.waitFor(before);
    races(() -> fill(b, x));
    b.waitFor(after); // the same position, but it has waited
    fill(b, x);
  }

  @Test
  void anEventMayBeWaitedForTwice() {
    fill(a, x);
    DeviceEvent event = a.record();
    b.waitFor(event);
    b.waitFor(event);
    c.waitFor(event);
    copy(b, x, y);
    copy(c, x, z);
    races(() -> fill(b, x));
  }

  @Test
  void aWaitForAnEventThatHasPassedOrdersToo() {
    fill(a, x);
    DeviceEvent event = a.record();
    a.flush();
    script.runAll();
    races(() -> fill(b, x)); // that the device was fast counts for nothing
    b.waitFor(event);
    fill(b, x);
  }

  @Test
  void theHostsWaitsOrderForAll() throws Exception {
    List<Background.Work> waits =
        List.of(
            () -> a.record().await(),
            a::synchronize,
            device::synchronize,
            () -> a.record().toFuture().join(),
            () -> assertThat(a.record().query()).isTrue(),
            () -> assertThat(a.query()).isTrue(),
            () -> DeviceEvent.elapsed(a.recordTimed(), a.recordTimed()),
            () -> read(x));
    for (Background.Work wait : waits) {
      fill(a, x);
      a.flush();
      script.runAll();
      races(() -> fill(b, x));
      Background<Boolean> waiter = Background.run(wait).untilParked();
      script.letRun();
      waiter.get();
      fill(b, x);
      a.waitFor(b.record());
    }
  }

  @Test
  void whatTheHostWaitedForOrdersAlsoWhatThatCameAfter() {
    fill(a, x);
    b.waitFor(a.record());
    b.flush();
    a.flush();
    script.runAll();
    fill(b, y);
    b.flush();
    script.runAll();
    b.synchronize();
    fill(c, x);
  }

  @Test
  void aSignalOrdersWhatTheHostKnewWhenTheWorkWasEncoded() {
    HostEvent event = device.hostEvent();
    fill(a, x);
    b.waitFor(event);
    races(() -> fill(b, x)); // what the signal will come after is not known
    b.waitFor(a.record());
    fill(b, x);
    a.flush();
    script.runAll();
    a.synchronize();
    HostEvent next = device.hostEvent();
    c.waitFor(next);
    copy(c, y, z);
    races(() -> copy(c, x, z)); // after a's work, but not after b's
    event.signal();
    b.flush();
    script.runAll();
    b.synchronize();
    copy(c, x, z);
    next.signal();
    next.await();
    event.await();
    races(() -> fill(a, y)); // of c's work, which reads it, the host has learned nothing
  }

  @Test
  void aWaitForTheHostKeepsTheOrderOfStreams() {
    HostEvent event = device.hostEvent();
    fill(a, x);
    b.waitFor(event);
    b.waitFor(a.record());
    c.waitFor(b.record());
    fill(c, x);
    event.signal();
    b.waitFor(event); // it has passed
    races(() -> fill(b, x));
  }

  @Test
  void aWaitThatTimesOutOrdersNothing() {
    fill(a, x);
    assertThatThrownBy(() -> a.synchronize(Duration.ZERO)).isInstanceOf(WaitTimeoutException.class);
    assertThat(a.query()).isFalse();
    races(() -> fill(b, x));
  }

  // ---- memory

  @Test
  void aRecycledBlockStartsAnew() {
    fill(a, x);
    long handle = x.handle();
    x.close();
    DeviceBuffer next = device.allocate(64, a);
    assertThat(next.handle()).isEqualTo(handle);
    fill(b, next); // the allocator makes it wait for the last tenant
    races(() -> fill(c, next));
  }

  @Test
  void theWaitForALastTenantIsNoOrderOfTheProgram() {
    DeviceBuffer other = device.allocate(32, a);
    fill(a, x);
    fill(a, other);
    x.close();
    fill(b, device.allocate(64, a)); // waits for `a`, if it got the block of x
    races(() -> b.fill(other, (byte) 1));
  }

  @Test
  void whatIsCancelledRacesWithNothing() {
    fill(a, x);
    assertThat(a.cancel()).isEqualTo(1);
    fill(b, x);
  }

  /** The later write had taken the place of the earlier one, which runs. */
  @Test
  void whatACancelledOperationHidIsSeenAgain() {
    fill(a, x);
    a.flush();
    fill(a, x);
    copy(a, x, y); // reads what may not be cancelled with it
    assertThat(a.cancel()).isEqualTo(2);
    fill(b, y);
    assertThat(races(() -> fill(b, x)).earlier().operation()).isEqualTo("fill");
    fill(a, z); // an event of what was cancelled is refused
    b.waitFor(a.record());
    fill(b, x);
  }

  @Test
  void aClosedBufferIsNoRace() {
    fill(a, x);
    x.close();
    assertThatThrownBy(() -> fill(b, x))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("closed");
  }

  @Test
  void accessesAreForgottenOnceTheyCannotMatter() {
    for (int i = 0; i < 64; i++) {
      a.fill(x, i, 1, (byte) i);
    }
    assertThat(accesses(x).size()).isEqualTo(64);
    fill(a, x);
    assertThat(accesses(x).size()).isEqualTo(1);
    copy(a, x, y);
    copy(a, x, y);
    assertThat(accesses(x).size()).isEqualTo(2);
    script.letRun();
    device.synchronize();
    a.fill(x, 0, 1, (byte) 0);
    assertThat(accesses(x).size()).as("the host knows that the rest is over").isEqualTo(1);
  }

  private static Accesses accesses(DeviceBuffer buffer) {
    Accesses accesses = buffer.accesses();
    if (accesses == null) {
      throw new AssertionError("no detector");
    }
    return accesses;
  }

  // ---- the CPU

  @Test
  void workUnderAnOpenView() {
    HostView view = x.map();
    try (view) {
      StreamRaceException race = races(() -> copy(a, x, y));
      assertThat(race.earlier().stream()).isEqualTo(StreamRaceException.HOST);
      assertThat(race.earlier().operation()).isEqualTo("map");
      assertThat(race.getMessage()).contains("must be closed before `copy`");
      fill(a, y);
    }
    copy(a, x, y);
  }

  @Test
  void readsUnderAReadOnlyView() {
    HostView closed = x.map();
    closed.close();
    try (HostView view = x.mapReadOnly()) {
      copy(a, x, y);
      races(() -> fill(a, x));
      assertThat(view.bytes().order()).isEqualTo(ByteOrder.nativeOrder());
      assertThatThrownBy(() -> view.bytes().put(0, (byte) 1))
          .isInstanceOf(ReadOnlyBufferException.class);
    }
    fill(a, x);
  }

  @Test
  void mapWaitsForWhatIsThere() throws Exception {
    fill(a, x);
    copy(a, x, z);
    Background<Byte> reader = Background.call(() -> read(x)).untilParked();
    races(() -> fill(a, x)); // the reader has its view already
    script.letRun();
    assertThat(reader.get()).isEqualTo((byte) 1);
    fill(b, x);
  }

  @Test
  void mapUnsafeDoesNot() {
    copy(a, x, y);
    a.flush();
    script.runAll();
    StreamRaceException race = races(x::mapUnsafe);
    assertThat(race.later().stream()).isEqualTo(StreamRaceException.HOST);
    assertThat(race.getMessage()).contains("The CPU must wait for an event recorded on stream 1");
    a.synchronize();
    try (HostView view = x.mapUnsafe()) {
      fill(a, x); // the caller orders what is done through the view
      assertThat(view.byteSize()).isEqualTo(64);
    }
    x.close();
    assertThat(device.allocate(64, a).handle()).as("no acquire is left").isEqualTo(x.handle());
  }

  @Test
  void toFloatsAndWrite() {
    script.letRun();
    Tensor tensor = device.tensor(new float[] {1, 2}, 2);
    a.fill(tensor.buffer(), (byte) 0);
    assertThat(tensor.toFloats()).containsExactly(0, 0);
    b.fill(tensor.buffer(), (byte) 0);
    tensor.write(new float[] {3, 4});
    c.fill(tensor.buffer(), (byte) 0);
    assertThat(device.hazards().races()).isZero();
  }

  // ---- failure

  @Test
  void aStreamThatFailedOrdersNothingUntilItsReset() {
    fill(a, x);
    script.fail(a.id(), Status.EXECUTION, "page fault");
    script.letRun();
    assertThatThrownBy(() -> a.record().await()).isInstanceOf(StreamFailedException.class);
    fill(b, x); // a wait that throws the failure has waited all the same
    a.reset();
    fill(a, y);
    script.fail(a.id(), Status.EXECUTION, "page fault");
    a.flush();
    while (!a.failure().isPresent()) {
      Thread.onSpinWait();
    }
    assertThatThrownBy(() -> b.waitFor(a.record())).isInstanceOf(StreamFailedException.class);
    races(() -> fill(b, y));
    a.reset();
    fill(b, y);
  }

  @Test
  void anEncodeThatIsRefusedLeavesNothing() {
    script.refuse("encodeFill", 1, Status.OUT_OF_MEMORY);
    assertThatThrownBy(() -> fill(a, x)).isInstanceOf(OutOfDeviceMemoryException.class);
    fill(b, x);
    assertThat(device.hazards()).isEqualTo(new HazardStats(HazardMode.DETECT, 1, 0, 0));
  }

  @Test
  void aRaceLeavesNothingOfItsOtherMemory() {
    fill(a, x);
    races(() -> b.copy(y, 0, x, 0, 64));
    fill(c, y); // b did not read it
  }

  // ---- two threads

  @Test
  void anEncodeUnderWayIsSeen() throws Exception {
    List<StreamRaceException> seen = new ArrayList<>();
    script.intercept(
        "encodeFill",
        () -> {
          script.intercept("encodeFill", null);
          Background<Boolean> second = Background.run(() -> seen.add(races(() -> fill(b, x))));
          try {
            second.get();
            Background.run(() -> seen.add(races(x::map))).get();
          } catch (Exception e) {
            throw new AssertionError(e);
          }
        });
    fill(a, x);
    assertThat(seen).hasSize(2);
  }

  // ---- reports

  @Test
  void theMessageNamesBothSidesAndTheMissingEdge() {
    fill(a, x);
    StreamRaceException race = races(() -> b.copy(x, 8, y, 0, 16));
    String file = "HazardsTest.java:";
    assertThat(race.getMessage())
        .matches(
            "race between stream 1 and stream 2: `copy` at"
                + " \\S+HazardsTest\\S+\\(HazardsTest.java:\\d+\\) on stream 2 \\(value 1\\) reads"
                + " bytes 8 to 24 of a buffer; `fill` at \\S+HazardsTest.fill\\S+ on stream 1"
                + " \\(value 1\\) writes bytes 0 to 64, and nothing orders the one after the other."
                + " Stream 2 must wait for an event recorded on stream 1 after `fill` at"
                + " \\S+HazardsTest.fill\\(HazardsTest.java:\\d+\\)");
    assertThat(race.earlier().site()).asString().contains(file);
    assertThat(race.earlier().exact()).isTrue();
    assertThat(race.later().site()).asString().contains(file);
  }

  @Test
  void aCallThroughTheJdkIsItsCallers() {
    Map.of(x, (byte) 1).forEach(a::fill);
    StreamRaceException race = races(() -> Map.of(x, (byte) 1).forEach(b::fill));
    assertThat(race.earlier().site()).asString().contains("aCallThroughTheJdkIsItsCallers");
    assertThat(race.later().site()).asString().contains("aCallThroughTheJdkIsItsCallers");
  }

  @Test
  void aLongRunKnowsSomeCallSites() {
    script.letRun();
    DeviceStream busy = device.streams().stream(5);
    for (int i = 0; i < 1001; i++) {
      fill(busy, y);
    }
    StreamRaceException race = races(() -> fill(b, y));
    assertThat(race.earlier().exact()).isFalse();
    assertThat(race.getMessage()).contains("call site not kept; last seen at dev.metalstreams");
    assertThat(race.later().exact()).isTrue();
  }

  @Test
  void oneInSoManyOfALongRunIsLookedUpAndWhoeverRacesIs() {
    script.letRun();
    DeviceStream busy = device.streams().stream(5);
    for (int i = 0; i <= 1024; i++) {
      fill(busy, y);
    }
    assertThat(races(() -> fill(b, y)).earlier().exact()).as("operation 1024, of 64").isTrue();
    fill(a, x);
    StreamRaceException race = races(() -> fill(busy, x));
    assertThat(race.later().exact()).as("it is the caller that is told").isTrue();
  }

  @Test
  void logsOncePerPairOfCallSites() {
    Logger logger = Logger.getLogger("dev.metalstreams");
    List<String> told = new ArrayList<>();
    Handler listener =
        new Handler() {
          @Override
          public void publish(LogRecord warning) {
            told.add(warning.getMessage());
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        };
    Device careless =
        open(
            Script.immediate(),
            builder -> builder.hazards(HazardMode.DETECT).hazardReport(HazardReport.LOG));
    logger.addHandler(listener);
    try {
      DeviceBuffer shared = careless.allocate(64, careless.streams().stream(1));
      for (int i = 0; i < 10; i++) {
        fill(careless.streams().stream(i % 2), shared);
      }
      assertThat(careless.hazards()).isEqualTo(new HazardStats(HazardMode.DETECT, 10, 9, 0));
      assertThat(told).hasSize(1);
      assertThat(told.getFirst()).contains("race between stream 0 and stream 1");
    } finally {
      logger.removeHandler(listener);
    }
  }

  // ---- order

  @Test
  void orderAddsTheMissingWait() {
    Script slow = Script.manual();
    Device careless = open(slow, builder -> builder.hazards(HazardMode.ORDER));
    DeviceStream first = careless.streams().stream(1);
    DeviceStream second = careless.streams().stream(2);
    DeviceBuffer shared = careless.allocate(64, first);
    DeviceBuffer result = careless.allocate(64, second);
    first.fill(shared, (byte) 7);
    second.copy(shared, 0, result, 0, 64);
    assertThat(slow.committed(first.id())).as("flushed").isEqualTo(1);
    first.fill(shared, (byte) 8);
    second.flush();
    first.flush();
    assertThat(slow.runnable()).containsExactly(first.id());
    slow.letRun();
    assertThat(read(result)).isEqualTo((byte) 7);
    assertThat(careless.hazards()).isEqualTo(new HazardStats(HazardMode.ORDER, 3, 0, 2));
  }

  @Test
  void orderAddsNoWaitThatIsNotNeeded() {
    Device careful = open(Script.immediate(), builder -> builder.hazards(HazardMode.ORDER));
    DeviceStream first = careful.streams().stream(1);
    DeviceStream second = careful.streams().stream(2);
    DeviceBuffer shared = careful.allocate(64, first);
    fill(first, shared);
    second.waitFor(first.record());
    fill(second, shared);
    careful.synchronize();
    fill(first, shared);
    assertThat(careful.hazards()).isEqualTo(new HazardStats(HazardMode.ORDER, 3, 0, 0));
  }

  @Test
  void orderMakesMapUnsafeWait() throws Exception {
    Script slow = Script.manual();
    Device careless = open(slow, builder -> builder.hazards(HazardMode.ORDER));
    DeviceBuffer shared = careless.allocate(64);
    fill(careless.streams().stream(1), shared);
    Background<Byte> reader = Background.call(() -> peek(shared)).untilParked();
    slow.letRun();
    assertThat(reader.get()).isEqualTo((byte) 1);
  }

  @Test
  void orderCannotCloseAView() {
    Device careless = open(Script.immediate(), builder -> builder.hazards(HazardMode.ORDER));
    DeviceStream first = careless.streams().stream(1);
    DeviceBuffer shared = careless.allocate(64);
    HostView view = shared.map();
    try (view) {
      assertThatThrownBy(() -> fill(first, shared)).isInstanceOf(StreamRaceException.class);
    }
    fill(first, shared);
  }

  @Test
  void orderWaitsForAnEncodeUnderWay() throws Exception {
    orderWaits((second, shared) -> fill(second, shared));
    orderWaits((second, shared) -> assertThat(read(shared)).isEqualTo((byte) 1));
    orderWaits((second, shared) -> assertThat(peek(shared)).isEqualTo((byte) 1));
  }

  private interface Second {
    void use(DeviceStream stream, DeviceBuffer shared);
  }

  private void orderWaits(Second use) throws Exception {
    Script slow = Script.manual();
    Device careless = open(slow, builder -> builder.hazards(HazardMode.ORDER));
    DeviceStream first = careless.streams().stream(1);
    DeviceStream second = careless.streams().stream(2);
    DeviceBuffer shared = careless.allocate(64);
    List<Background<?>> others = new ArrayList<>();
    slow.intercept(
        "encodeFill",
        () -> {
          slow.intercept("encodeFill", null);
          others.add(Background.run(() -> use.use(second, shared)).untilParked());
        });
    fill(first, shared);
    slow.letRun();
    others.getFirst().get();
    assertThat(careless.hazards().races()).isZero();
  }

  @Test
  void orderIsNotHeldUpByAnEncodeThatIsRefused() throws Exception {
    Script slow = Script.manual();
    Device careless = open(slow, builder -> builder.hazards(HazardMode.ORDER));
    DeviceStream first = careless.streams().stream(1);
    DeviceStream second = careless.streams().stream(2);
    DeviceBuffer shared = careless.allocate(64);
    List<Background<?>> others = new ArrayList<>();
    slow.intercept(
        "encodeFill",
        () -> {
          others.add(Background.run(() -> second.copy(shared, 0, shared, 32, 8)).untilParked());
          throw new DriverException(Status.OUT_OF_MEMORY, "planned");
        });
    assertThatThrownBy(() -> fill(first, shared)).isInstanceOf(OutOfDeviceMemoryException.class);
    others.getFirst().get();
    assertThat(careless.hazards().operations()).isEqualTo(1);
  }

  // ---- off

  @Test
  void offKeepsNothing() {
    Device plain = open(Script.immediate());
    DeviceStream stream = plain.streams().stream(1);
    DeviceBuffer buffer = plain.allocate(64, stream);
    fill(stream, buffer);
    assertThat(plain.detector()).isNull();
    assertThat(buffer.accesses()).isNull();
    assertThat(stream.record().stamp()).isNull();
    assertThat(plain.hazards()).isEqualTo(new HazardStats(HazardMode.OFF, 0, 0, 0));
  }
}
