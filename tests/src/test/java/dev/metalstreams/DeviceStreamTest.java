package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.within;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
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
    device.close();
    for (Background.Work work :
        List.<Background.Work>of(
            () -> stream.fill(buffer, (byte) 1),
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
