package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.within;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Encoding, commits, bounds and order on streams. */
class DeviceStreamTest extends CoreTest {

  // ---- work

  @Test
  void fillsAndCopies() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    try (DeviceBuffer a = device.allocate(64);
        DeviceBuffer b = device.allocate(64)) {
      stream.fill(a, (byte) 1);
      stream.fill(a, 8, 8, (byte) 2);
      stream.copy(a, 4, b, 0, 8);
      stream.copy(a, 0, a, 32, 32);
      stream.fill(b, 63, 0, (byte) 9);
      stream.copy(a, 64, b, 64, 0);
      try (HostView view = b.map()) {
        byte[] bytes = new byte[8];
        view.bytes().get(bytes);
        assertThat(bytes).containsExactly(1, 1, 1, 1, 2, 2, 2, 2);
      }
      try (HostView view = a.map()) {
        assertThat(view.bytes().get(40)).isEqualTo((byte) 2);
      }
    }
  }

  @Test
  void rangesOfOneBufferMustNotOverlap() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(64);
    for (long target : new long[] {1, 8, 15}) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> stream.copy(buffer, 8, buffer, target, 8))
          .withMessage("ranges of one buffer overlap: 8 bytes from 8 to " + target);
    }
    stream.copy(buffer, 8, buffer, 0, 8);
    stream.copy(buffer, 8, buffer, 16, 8);
  }

  // ---- adaptive commit

  @Test
  void aLoneOperationIsNotCommittedBeforeSomeoneWaits() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    assertThat(script.committed(stream.id())).isZero();
    assertThat(script.open(stream.id())).isTrue();
    stream.flush();
    assertThat(script.committed(stream.id())).isEqualTo(1);
    stream.flush();
    assertThat(script.committed(stream.id())).as("nothing to flush").isEqualTo(1);
  }

  @Test
  void theSecondOperationGoesToAnIdleDevice() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    stream.fill(buffer, (byte) 2);
    assertThat(script.committed(stream.id())).isEqualTo(1);
    for (int i = 0; i < 10; i++) {
      stream.fill(buffer, (byte) 3); // the device is busy: gathered
    }
    assertThat(script.committed(stream.id())).isEqualTo(1);
    assertThat(script.open(stream.id())).isTrue();
  }

  @Test
  void whereWaitingThreadsRunTheWorkNothingIsCommittedEarly() {
    Script script = Script.waitedFor();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    for (int i = 0; i < 8; i++) {
      stream.fill(buffer, (byte) i);
    }
    assertThat(script.committed(stream.id())).isZero();
    stream.synchronize();
    assertThat(script.committed(stream.id())).isEqualTo(1);
  }

  @Test
  void aLargeCommandBufferIsCommitted() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer small = device.allocate(8);
    stream.fill(small, (byte) 1);
    stream.flush(); // busy from here on
    for (int i = 0; i < 40; i++) {
      stream.fill(small, (byte) 1);
    }
    assertThat(script.committed(stream.id())).as("by number").isEqualTo(2);
    DeviceBuffer large = device.allocate(41 << 20);
    stream.fill(large, (byte) 1);
    assertThat(script.committed(stream.id())).as("by bytes").isEqualTo(3);
  }

  /** Neither inputs nor outputs alone are a megabyte. */
  @Test
  void anExecutableCountsWithAllItsTensors() {
    Script script = Script.manual();
    Device device = open(script, builder -> builder.set(Settings.Key.COMMIT_MEGABYTES, "1"));
    DeviceStream stream = device.streams().current();
    long elements = 150_000;
    Graph graph = Graph.build(g -> g.output("y", g.relu(g.input("x", DType.F32, elements))));
    stream.fill(device.allocate(8), (byte) 1);
    stream.flush(); // busy from here on
    try (Executable executable = device.compile(graph);
        Tensor x = device.empty(DType.F32, elements)) {
      executable.run(stream, x).close();
      assertThat(script.committed(stream.id())).isEqualTo(2);
    }
  }

  /** No three of the four tensors are a megabyte. */
  @Test
  void aLayerNormCountsWithAllItsTensors() {
    Script script = Script.manual();
    Device device = open(script, builder -> builder.set(Settings.Key.COMMIT_MEGABYTES, "1"));
    DeviceStream stream = device.streams().current();
    long columns = 70_000;
    stream.fill(device.allocate(8), (byte) 1);
    stream.flush();
    try (Tensor x = device.empty(DType.F32, 1, columns);
        Tensor gamma = device.empty(DType.F32, columns);
        Tensor beta = device.empty(DType.F32, columns);
        Tensor y = device.empty(DType.F32, 1, columns)) {
      stream.layerNorm(x, gamma, beta, 1, y);
      assertThat(script.committed(stream.id())).isEqualTo(2);
    }
  }

  @Test
  void aCommitTellsWhetherItsWaiterHelpsAndWhetherToContinue() throws Exception {
    Script script = Script.waitedFor();
    Device device = open(script);
    DeviceStream owners = device.streams().stream(0);
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    for (Background.Work wait :
        List.<Background.Work>of(
            stream::flush,
            stream::synchronize,
            () -> Background.runVirtually(stream::synchronize).untilParked(),
            () ->
                assertThatExceptionOfType(WaitTimeoutException.class)
                    .isThrownBy(() -> stream.synchronize(Duration.ZERO)))) {
      long before = script.committed(stream.id());
      stream.fill(buffer, (byte) 1);
      wait.run();
      script.awaitCommitted(stream.id(), before + 1);
      script.runAll();
    }
    assertThat(script.commitFlags(stream.id()))
        .containsExactly(
            Driver.COMMIT_DEFAULT,
            Driver.COMMIT_WAITING,
            Driver.COMMIT_DEFAULT,
            Driver.COMMIT_DEFAULT);
    owners.fill(buffer, (byte) 1);
    owners.synchronize();
    assertThat(script.commitFlags(owners.id()))
        .containsExactly(Driver.COMMIT_WAITING | Driver.COMMIT_CONTINUE);
  }

  /** A device without a completion thread: its housekeeping is done by hand. */
  private Device openIdle(Script script, int idleMillis) {
    Parts parts =
        new Parts() {
          @Override
          boolean completionThread() {
            return false;
          }
        };
    return open(
        script,
        builder ->
            builder.parts(parts).set(Settings.Key.COMMIT_IDLE, Integer.toString(idleMillis)));
  }

  private static void oneMillisecond() {
    long begun = System.nanoTime();
    while (System.nanoTime() - begun < 1_000_000) {
      Thread.onSpinWait();
    }
  }

  @Test
  void whatNobodyFollowsUpIsCommittedWhenItIsOld() throws Exception {
    Script script = Script.manual();
    Device device = openIdle(script, 1);
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.commitIfStale();
    for (int round = 1; round <= 3; round++) {
      stream.fill(buffer, (byte) round);
      stream.commitIfStale(); // sees it for the first time
      assertThat(script.committed(stream.id())).isEqualTo(round - 1);
      oneMillisecond();
      if (round == 2) { // it is only early: what is refused is tried again
        script.refuse("commit", 1, Status.INTERNAL);
        stream.commitIfStale();
        assertThat(script.committed(stream.id())).isEqualTo(1);
      }
      stream.commitIfStale();
      assertThat(script.committed(stream.id())).isEqualTo(round);
      stream.commitIfStale();
    }
    Background.run(stream::flush).get(); // the lock is free
    script.runAll();
  }

  @Test
  void whatIsYoungOrNeverToBeCommittedByItselfIsLeftAlone() {
    for (int idleMillis : new int[] {0, 60_000}) {
      Script script = Script.manual();
      DeviceStream stream = openIdle(script, idleMillis).streams().stream(1);
      stream.fill(stream.device().allocate(8, stream), (byte) 1);
      stream.commitIfStale();
      oneMillisecond();
      stream.commitIfStale();
      assertThat(script.committed(stream.id())).isZero();
    }
  }

  @Test
  void theHousekeepingWaitsForNobodyWhoEncodes() throws Exception {
    Script script = Script.manual();
    Device device = openIdle(script, 1);
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.commitIfStale();
    Halt halt = script.halt("encodeFill");
    Background<Boolean> encoder = Background.run(() -> stream.fill(buffer, (byte) 2));
    halt.awaitReached();
    oneMillisecond();
    stream.commitIfStale(); // would hang here
    assertThat(script.committed(stream.id())).isZero();
    halt.end();
    encoder.get();
  }

  @Test
  void anEventOfWorkInTheOpenCommandBufferIsSubmittedByItsWaiter() throws Exception {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    DeviceEvent event = stream.record();
    assertThat(event.query()).isFalse();
    assertThat(script.committed(stream.id())).as("a query submits nothing").isZero();
    Background<Boolean> waiter = Background.run(event::await);
    script.awaitCommitted(stream.id(), 1);
    script.run(stream.id());
    waiter.get();
    assertThat(event.query()).isTrue();
  }

  // ---- the bound in flight

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 16, 60})
  void waitsWithoutALockWhenTooMuchIsUnderWay(int maxInFlight) throws Exception {
    Script script = Script.manual();
    Device device = open(script, builder -> builder.maxInFlight(maxInFlight));
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    for (int i = 0; i < maxInFlight; i++) {
      stream.fill(buffer, (byte) i);
      stream.flush();
    }
    assertThat(script.inFlight(stream.id())).isEqualTo(maxInFlight);
    Background<Boolean> encoder =
        Background.run(() -> stream.fill(buffer, (byte) 99)).untilParked();
    assertThat(encoder.over()).isFalse();
    // The lock is free: others use the stream meanwhile.
    DeviceEvent event = stream.record();
    assertThat(event.query()).isFalse();
    stream.flush();
    assertThat(stream.query()).isFalse();
    assertThat(script.inFlight(stream.id())).isEqualTo(maxInFlight);
    script.run(stream.id());
    encoder.get();
    script.letRun();
    stream.synchronize();
    assertThat(read(buffer)).isEqualTo((byte) 99);
  }

  @Test
  void goesOnForEverWithABound() {
    Device device =
        open(Script.automaticBuilder().canAwait().build(), builder -> builder.maxInFlight(2));
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    for (int i = 0; i < 300; i++) {
      stream.fill(buffer, (byte) i);
      stream.flush();
    }
    assertThat(read(buffer)).isEqualTo((byte) 299);
  }

  // ---- two threads on one stream

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void eightThreadsOnOneStreamAreSafe(boolean canAwait) throws Exception {
    Script.Builder builder = Script.automaticBuilder().seed(11);
    Script script = (canAwait ? builder.canAwait() : builder).build();
    Device device = open(script);
    DeviceStream stream = device.streams().stream(1);
    List<Background<Boolean>> workers = new ArrayList<>();
    for (int thread = 0; thread < 8; thread++) {
      int of = thread;
      workers.add(Background.run(() -> thousandOperations(device, stream, of)));
    }
    for (Background<Boolean> worker : workers) {
      worker.get();
    }
    device.synchronize();
    assertThat(script.violations()).isEmpty();
    assertThat(device.memory().stats().allocated()).isZero();
  }

  /** Every operation depends on the one before, so that a lost, doubled or misplaced one shows. */
  private static void thousandOperations(Device device, DeviceStream stream, int of) {
    try (DeviceBuffer trace = device.allocate(1000, stream);
        DeviceBuffer cell = device.allocate(1, stream)) {
      for (int i = 0; i < 500; i++) {
        stream.fill(cell, (byte) (of * 17 + i));
        stream.copy(cell, 0, trace, i, 1);
        if (i % 100 == 99) {
          DeviceEvent event = stream.record();
          event.await();
          assertThat(event.query()).isTrue();
        }
      }
      try (HostView view = trace.map()) {
        for (int i = 0; i < 500; i++) {
          assertThat(view.bytes().get(i)).isEqualTo((byte) (of * 17 + i));
        }
      }
    }
  }

  @Test
  void eightThreadsRunAGraphOnOneStream() throws Exception {
    Device device = open(Script.automatic());
    DeviceStream stream = device.streams().stream(1);
    Graph graph =
        Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 4);
              g.output("y", g.relu(g.add(x, x)));
            });
    try (Executable executable = device.compile(graph)) {
      List<Background<Boolean>> workers = new ArrayList<>();
      for (int thread = 0; thread < 8; thread++) {
        Random random = new Random(thread);
        workers.add(
            Background.run(
                () -> {
                  for (int i = 0; i < 100; i++) {
                    float[] values = {random.nextFloat(), -1, i, random.nextFloat()};
                    try (Tensor x = device.tensor(values, 4);
                        Tensor y = executable.run(stream, x)) {
                      assertThat(y.toFloats())
                          .containsExactly(
                              new float[] {2 * values[0], 0, 2 * values[2], 2 * values[3]},
                              within(0f));
                    }
                  }
                }));
      }
      for (Background<Boolean> worker : workers) {
        worker.get();
      }
    }
  }

  // ---- order across streams

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
  void keepsTheOrderOfEventsInEveryOrderOfCompletion(long seed) {
    Script script = Script.manual();
    Device device = open(script, builder -> builder.maxInFlight(60));
    DeviceStream a = device.streams().stream(1);
    DeviceStream b = device.streams().stream(2);
    DeviceStream c = device.streams().stream(3);
    DeviceBuffer left = device.allocate(8, a);
    DeviceBuffer right = device.allocate(8, b);
    for (int i = 1; i <= 20; i++) {
      a.fill(left, (byte) i);
      b.waitFor(a.record());
      b.copy(left, 0, right, 0, 8);
      a.waitFor(b.record());
      c.fill(device.allocate(8, c), (byte) i); // unrelated work in between
    }
    DeviceBuffer result = device.allocate(8, c);
    c.waitFor(b.record());
    c.copy(right, 0, result, 0, 8);
    c.flush();
    script.runRandomly(seed);
    device.streams().all().forEach(DeviceStream::flush);
    script.runRandomly(seed);
    assertThat(peek(result)).isEqualTo((byte) 20);
  }

  @Test
  void streamsDoNotWaitForEachOther() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream a = device.streams().stream(1);
    DeviceStream b = device.streams().stream(2);
    DeviceBuffer ofA = device.allocate(8, a);
    DeviceBuffer ofB = device.allocate(8, b);
    a.fill(ofA, (byte) 1);
    b.fill(ofB, (byte) 1);
    a.flush();
    b.flush();
    assertThat(script.runnable()).as("both can run at once").containsExactly(a.id(), b.id());
    script.step(a.id()); // a is in the middle of its work
    script.run(b.id()); // b begins and ends meanwhile
    assertThat(b.query()).isTrue();
    assertThat(a.query()).isFalse();
    assertThat(peek(ofB)).isEqualTo((byte) 1);
  }

  @Test
  void waitingForTheOwnOrAPassedEventCostsNothing() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream a = device.streams().stream(1);
    DeviceStream b = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(8, a);
    a.fill(buffer, (byte) 1);
    a.waitFor(a.record());
    a.flush();
    script.runAll();
    b.waitFor(a.record());
    assertThat(script.open(b.id())).isFalse();
    assertThat(script.inFlight(b.id())).isZero();
  }

  @Test
  void waitingFlushesTheOtherStream() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream a = device.streams().stream(1);
    DeviceStream b = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(8, a);
    a.fill(buffer, (byte) 1);
    b.waitFor(a.record());
    assertThat(script.committed(a.id())).isEqualTo(1);
  }

  /** Between the look for failures and the look whether there is anything to wait for. */
  @Test
  void aFailureIsNotLostThatComesWhileAnotherStreamBeginsToWait() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream a = device.streams().stream(1);
    DeviceStream b = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(8, a);
    a.fill(buffer, (byte) 1);
    a.flush();
    script.fail(a.id(), Status.EXECUTION, "page fault");
    script.intercept(
        "completedValue",
        () -> {
          script.intercept("completedValue", null);
          script.runAll();
          while (a.failure().isEmpty()) {
            Thread.onSpinWait();
          }
        });
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> b.waitFor(a.record()))
        .withMessageContaining("page fault");
    assertThat(script.open(b.id())).isFalse();
  }

  // ---- waiting

  @Test
  void synchronizeWaitsForWhatCameBeforeAndNothingElse() throws Exception {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.synchronize();
    assertThat(stream.query()).isTrue();
    stream.fill(buffer, (byte) 1);
    Background<Boolean> waiter = Background.run(() -> stream.synchronize());
    script.awaitCommitted(stream.id(), 1);
    waiter.untilParked();
    stream.fill(buffer, (byte) 2);
    stream.flush();
    script.run(stream.id());
    waiter.get();
    assertThat(stream.query()).as("the later work is still under way").isFalse();
  }

  @Test
  void synchronizeGivesUpAfterItsTime() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    stream.fill(device.allocate(8), (byte) 1);
    for (Duration time : List.of(Duration.ZERO, Duration.ofNanos(1), Duration.ofMillis(2))) {
      assertThatExceptionOfType(WaitTimeoutException.class)
          .isThrownBy(() -> stream.synchronize(time))
          .withMessageContaining("stream 0");
    }
    script.runAll();
    stream.synchronize(Duration.ZERO);
    stream.synchronize(Duration.ofSeconds(Long.MAX_VALUE));
  }

  // ---- layer norm

  @Test
  void normalisesInTheOrderOfTheStream() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    Tensor x = device.tensor(new float[] {1, 3, 10, 30}, 2, 2);
    Tensor gamma = device.tensor(new float[] {1, 2}, 2);
    Tensor beta = device.tensor(new float[] {0, 1}, 2);
    try (Tensor y = device.empty(DType.F32, 2, 2);
        Tensor again = device.empty(DType.F32, 2, 2)) {
      stream.layerNorm(x, gamma, beta, 0, y);
      stream.layerNorm(y, gamma, beta, 0, again);
      for (Tensor early : List.of(x, gamma, beta)) {
        early.close(); // the work keeps their memory
      }
      stream.flush();
      script.runAll();
      assertThat(y.toFloats()).containsExactly(-1, 3, -1, 3);
      assertThat(again.toFloats()).containsExactly(-1, 3, -1, 3);
    }
    assertThat(device.memory().stats().active()).isZero();
  }

  /** Blocks just as large as their tensors: one row too many is beyond the end. */
  @Test
  void normalisesAsManyRowsAsThereAre() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    float[] rows = new float[4 * 64];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = i % 2 == 0 ? 1 : 3;
    }
    float[] ones = new float[64];
    Arrays.fill(ones, 1);
    try (Tensor x = device.tensor(rows, 4, 64);
        Tensor gamma = device.tensor(ones, 64);
        Tensor beta = device.tensor(new float[64], 64);
        Tensor y = device.empty(DType.F32, 4, 64)) {
      stream.layerNorm(x, gamma, beta, 0, y);
      float[] result = y.toFloats();
      for (int i = 0; i < rows.length; i++) {
        assertThat(result[i]).isEqualTo(i % 2 == 0 ? -1 : 1);
      }
    }
  }

  @Test
  void aLayerNormOfTheWrongShapesIsRefused() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    try (Tensor x = device.tensor(new float[] {1, 2}, 2);
        Tensor y = device.empty(DType.F32, 2);
        Tensor wide = device.tensor(new float[3], 3)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> stream.layerNorm(x, wide, x, 0, y))
          .withMessageContaining("gamma");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> stream.layerNorm(x, x, wide, 0, y))
          .withMessageContaining("beta");
    }
  }

  @Test
  void aLayerNormOfAClosedTensorHoldsNoneOfTheOthers() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    for (int closed = 0; closed < 4; closed++) {
      List<Tensor> all = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        all.add(device.tensor(new float[] {1, 2}, 2));
      }
      all.get(closed).close();
      assertThatExceptionOfType(IllegalStateException.class)
          .isThrownBy(() -> stream.layerNorm(all.get(0), all.get(1), all.get(2), 0, all.get(3)))
          .withMessageContaining("closed");
      assertThat(all.get(closed).buffer().isClosed()).isTrue();
      all.forEach(Tensor::close);
      assertThat(device.memory().stats().allocated()).isZero();
    }
    device.memory().emptyCache();
    assertThat(device.memory().stats().deviceFrees()).as("each once").isEqualTo(4);
  }

  @Test
  void aLayerNormThatIsRefusedLosesNothing() {
    Script script = Script.immediate();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    try (Tensor row = device.tensor(new float[] {2, 4}, 2);
        Tensor y = device.empty(DType.F32, 2)) {
      script.refuse("encodeLayerNorm", 1, Status.INTERNAL);
      assertThatExceptionOfType(MetalStreamsException.class)
          .isThrownBy(() -> stream.layerNorm(row, row, row, 0, y))
          .withMessageContaining("stream 0");
      stream.layerNorm(row, row, row, 0, y);
      assertThat(y.toFloats()).containsExactly(0, 8);
    }
    assertThat(device.memory().stats().active()).isZero();
  }

  // ---- refusals of the driver

  @ParameterizedTest
  @ValueSource(strings = {"begin", "encodeFill", "encodeCopy"})
  void aRefusedCallLosesNothing(String method) {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    try (DeviceBuffer a = device.allocate(8);
        DeviceBuffer b = device.allocate(8)) {
      stream.fill(a, (byte) 1);
      stream.flush();
      script.refuse(method, 1, Status.INTERNAL);
      assertThatExceptionOfType(MetalStreamsException.class)
          .isThrownBy(
              () -> {
                stream.fill(a, (byte) 2);
                stream.copy(a, 0, b, 0, 8);
              })
          .withMessageContaining("stream 0")
          .withMessageContaining(method);
      stream.fill(b, (byte) 3);
      stream.copy(b, 0, a, 0, 8);
      stream.flush();
      script.runAll();
      stream.synchronize();
      assertThat(read(a)).isEqualTo((byte) 3);
    }
    assertThat(device.memory().stats().active()).isZero();
  }

  @Test
  void aRefusedCommitIsTriedAgain() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    script.refuse("commit", 1, Status.OUT_OF_MEMORY);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class).isThrownBy(stream::flush);
    stream.flush();
    script.runAll();
    stream.synchronize();
    assertThat(peek(buffer)).isEqualTo((byte) 1);
  }

  @Test
  void aRefusedEarlyCommitIsNoFailureOfTheOperation() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    script.refuse("commit", 1, Status.INTERNAL);
    stream.fill(buffer, (byte) 2);
    stream.flush();
    script.runAll();
    stream.synchronize();
    assertThat(peek(buffer)).isEqualTo((byte) 2);
  }

  // ---- failure and reset

  @Test
  void aFailedStreamTakesNoWorkUntilItsReset() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    assertThat(stream.failure()).isEmpty();
    stream.reset();
    stream.fill(buffer, (byte) 1);
    stream.flush();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(stream::synchronize)
        .withMessageContaining("page fault");
    assertThat(stream.failure()).isPresent();
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> stream.fill(buffer, (byte) 2))
        .withMessageContaining("page fault")
        .withMessageContaining("reset");
    stream.reset();
    assertThat(stream.failure()).isEmpty();
    stream.fill(buffer, (byte) 3);
    stream.flush();
    script.runAll();
    stream.synchronize();
    assertThat(peek(buffer)).isEqualTo((byte) 3);
    assertThat(script.completed(stream.id())).as("values are never set back").isEqualTo(2);
  }

  /** The driver, too, takes the failure for over: whoever looks sees later work complete. */
  @Test
  void aResetStreamIsSeenToMoveOnWithoutTheCompletionThread() {
    Script script = Script.manual();
    Device device = openIdle(script, 0);
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    device.completions().drain(0);
    assertThat(stream.failure()).isPresent();
    stream.reset();
    stream.fill(buffer, (byte) 2);
    stream.flush();
    script.runAll();
    assertThat(stream.query()).isTrue();
  }

  @Test
  void aRefusedLastCommitIsTold() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().stream(1);
    stream.fill(device.allocate(8, stream), (byte) 1);
    script.refuse("commit", 1, Status.INTERNAL);
    device.close();
    assertThat(warnings()).anyMatch(each -> each.contains("the last commit was refused at close"));
  }

  @Test
  void hasANameForMessages() {
    Device device = open(Script.manual());
    DeviceStream stream = device.streams().stream(1);
    assertThat(stream).hasToString("stream 1 of " + device + " stream 1[submitted 0, completed 0]");
    assertThat(stream.record()).hasToString("event 0 of stream 1");
    assertThat(device.allocate(8, stream)).hasToString("buffer of 8 bytes on stream 1");
  }

  @Test
  void aStreamWithWorkUnderWayIsNotReset() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    stream.fill(buffer, (byte) 2);
    stream.flush();
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.run(stream.id());
    DeviceEvent second = stream.record();
    while (stream.failure().isEmpty()) {
      Thread.onSpinWait(); // until the completion thread has brought it
    }
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(stream::reset)
        .withMessageContaining("synchronize");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(second::await);
    stream.reset();
  }

  @Test
  void anEncodeThatWasRefusedDoesNotStandInTheWayOfAReset() {
    Script script = Script.manual();
    Device device = open(script);
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    stream.fill(buffer, (byte) 1);
    stream.flush();
    script.refuse("encodeFill", 1, Status.INTERNAL);
    assertThatExceptionOfType(MetalStreamsException.class)
        .isThrownBy(() -> stream.fill(buffer, (byte) 2));
    script.fail(stream.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(stream::synchronize);
    stream.reset();
    stream.fill(buffer, (byte) 3);
    stream.flush();
    script.runAll();
    stream.synchronize();
    assertThat(peek(buffer)).isEqualTo((byte) 3);
  }

  // ---- after the end

  @Test
  void takesNoWorkAfterTheDeviceClosed() {
    Device device = open(Script.immediate());
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(8);
    DeviceEvent passed = device.streams().stream(1).record();
    device.close();
    for (Background.Work work :
        List.<Background.Work>of(
            () -> stream.fill(buffer, (byte) 1),
            () -> stream.waitFor(passed),
            stream::cancel,
            () -> stream.copy(buffer, 0, buffer, 4, 4),
            stream::record,
            stream::recordTimed,
            stream::flush,
            stream::synchronize,
            () -> stream.synchronize(Duration.ZERO),
            stream::reset,
            () -> device.streams().stream(0).fill(buffer, 0, 4, (byte) 1))) {
      assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(work::run);
    }
    assertThat(stream.query()).isTrue();
    assertThat(stream.failure()).isEmpty();
  }
}
