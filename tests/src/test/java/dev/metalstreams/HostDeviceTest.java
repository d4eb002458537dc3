package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.within;

import dev.metalstreams.bindings.abi.mst_test_h;
import dev.metalstreams.bindings.abi.mst_test_live_objects;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverProvider;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.ServiceLoader;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReferenceArray;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The core on the host shim: real asynchrony, real memory, nothing left behind. */
@Timeout(60)
class HostDeviceTest {

  /** When the device worked on something. */
  private record Span(long queueId, long start, long end) {
    boolean overlaps(Span other) {
      return start < other.end && other.start < end;
    }
  }

  private final List<Span> spans = new CopyOnWriteArrayList<>();
  private List<Long> before = List.of();

  /** The native driver, with the times of its completions noted. */
  private DriverProvider recording() {
    return options -> {
      Driver driver =
          ServiceLoader.load(DriverProvider.class).findFirst().orElseThrow().open(options);
      return (Driver)
          Proxy.newProxyInstance(
              Driver.class.getClassLoader(),
              new Class<?>[] {Driver.class},
              (proxy, method, arguments) -> {
                if (method.getName().equals("nextCompletions")) {
                  arguments[0] = noting((CompletionSink) arguments[0]);
                }
                try {
                  return method.invoke(driver, arguments);
                } catch (InvocationTargetException e) {
                  throw e.getCause();
                }
              });
    };
  }

  private CompletionSink noting(CompletionSink sink) {
    return (long id, long value, long start, long end, @Nullable CompletionFailure failure) -> {
      spans.add(new Span(id, start, end));
      sink.completed(id, value, start, end, failure);
    };
  }

  private static Device.Builder host(int workers) {
    return Device.builder().backend("host").workers(workers).debug(true);
  }

  /** Live native objects of the process: devices, queues, buffers, graphs, executables. */
  private static List<Long> live() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment live = mst_test_live_objects.allocate(arena);
      assertThat(mst_test_h.mst_test_live(live)).isZero();
      return List.of(
          mst_test_live_objects.devices(live),
          mst_test_live_objects.queues(live),
          mst_test_live_objects.buffers(live),
          mst_test_live_objects.graphs(live),
          mst_test_live_objects.executables(live));
    }
  }

  @BeforeEach
  void countWhatIsThere() {
    host(1).open().close(); // loads the library
    before = live();
  }

  @AfterEach
  void nothingIsLeftBehind() {
    assertThat(live()).isEqualTo(before);
  }

  /** Submits matrix products to two streams, with enough work that neither is done at once. */
  private boolean anyOverlap(int workers) {
    spans.clear();
    long first;
    try (Device device = host(workers).driver(recording()).mathLibrary("builtin").open()) {
      Graph product =
          Graph.build(
              g -> {
                Node x = g.input("x", DType.F32, 160, 160);
                g.output("y", g.matmul(x, x));
              });
      DeviceStream a = device.streams().stream(1);
      DeviceStream b = device.streams().stream(2);
      try (Executable exe = device.compile(product);
          Tensor x = device.tensor(new float[160 * 160], 160, 160)) {
        for (int i = 0; i < 12; i++) {
          exe.run(a, x).close();
          a.flush();
          exe.run(b, x).close();
          b.flush();
        }
        // Not by a native wait: the waiting thread would work too.
        a.record().toFuture().join();
        b.record().toFuture().join();
      }
      first = a.id();
    }
    // The close has brought every completion.
    return spans.stream()
        .filter(each -> each.queueId == first)
        .anyMatch(
            each ->
                spans.stream().anyMatch(other -> other.queueId != first && each.overlaps(other)));
  }

  @Test
  void twoStreamsWorkAtTheSameTime() {
    // The streams are independent for all their work: on a busy machine another round may be needed
    // until the system lets both workers run, but a device that runs one after the other never gets
    // there.
    boolean overlapped = false;
    for (int round = 0; round < 50 && !overlapped; round++) {
      overlapped = anyOverlap(2);
    }
    assertThat(overlapped).isTrue();
  }

  @Test
  void oneWorkerNeverWorksOnTwoThingsAtOnce() {
    assertThat(anyOverlap(1)).as("so the test of overlap can fail").isFalse();
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void eightThreadsOnOneStreamAreSafe(int workers) throws Exception {
    try (Device device = host(workers).open()) {
      DeviceStream stream = device.streams().stream(1);
      List<Background<Boolean>> threads = new ArrayList<>();
      for (int thread = 0; thread < 8; thread++) {
        int of = thread;
        threads.add(
            Background.run(
                () -> {
                  try (DeviceBuffer trace = device.allocate(1000, stream);
                      DeviceBuffer cell = device.allocate(1, stream)) {
                    for (int i = 0; i < 500; i++) {
                      stream.fill(cell, (byte) (of * 17 + i));
                      stream.copy(cell, 0, trace, i, 1);
                    }
                    try (HostView view = trace.map()) {
                      for (int i = 0; i < 500; i++) {
                        assertThat(view.bytes().get(i)).isEqualTo((byte) (of * 17 + i));
                      }
                    }
                  }
                }));
      }
      for (Background<Boolean> thread : threads) {
        thread.get();
      }
    }
  }

  @Test
  void manyThreadsChurnMemoryOnStreamsOfTheirOwn() throws Exception {
    try (Device device = host(2).open()) {
      Graph affine =
          Graph.build(
              g -> {
                Node x = g.input("x", DType.F32, 4, 8);
                Node w = g.input("w", DType.F32, 8, 8);
                g.output("y", g.relu(g.add(g.matmul(x, w), x)));
              });
      float[] identity = new float[64];
      for (int i = 0; i < 8; i++) {
        identity[9 * i] = 1;
      }
      Map<DeviceStream, Boolean> used = new ConcurrentHashMap<>();
      AtomicLong checked = new AtomicLong();
      try (Executable exe = device.compile(affine);
          Tensor w = device.tensor(identity, 8, 8)) {
        List<Background<Boolean>> threads = new ArrayList<>();
        for (int thread = 0; thread < 12; thread++) {
          Random random = new Random(thread);
          Background.Work work =
              () -> {
                for (int i = 0; i < 60; i++) {
                  float[] values = new float[32];
                  float[] expected = new float[32];
                  for (int k = 0; k < 32; k++) {
                    values[k] = random.nextFloat() - 0.5f;
                    expected[k] = Math.max(0, 2 * values[k]);
                  }
                  try (Tensor x = device.tensor(values, 4, 8);
                      Tensor y = exe.run(x, w)) {
                    assertThat(y.toFloats()).containsExactly(expected, within(1e-6f));
                  }
                  used.put(device.streams().current(), true);
                  checked.incrementAndGet();
                }
              };
          threads.add(thread % 2 == 0 ? Background.run(work) : Background.runVirtually(work));
        }
        for (Background<Boolean> thread : threads) {
          thread.get();
        }
      }
      assertThat(checked).hasValue(12 * 60);
      assertThat(used).hasSize(12);
      assertThat(device.memory().stats().allocated()).isZero();
    }
  }

  /** Eight threads load eight streams, two of which fail, while others synchronize the device. */
  @Test
  void aDeviceWideSynchronizeUnderLoadCoversEveryStreamAndTellsEveryFailure() throws Exception {
    try (Device device = host(2).open()) {
      AtomicBoolean over = new AtomicBoolean();
      AtomicLong covered = new AtomicLong();
      AtomicReferenceArray<@Nullable DeviceEvent> last = new AtomicReferenceArray<>(8);
      CountDownLatch loaded = new CountDownLatch(8);
      List<Background<Boolean>> threads = new ArrayList<>();
      for (int t = 0; t < 8; t++) {
        int number = t;
        DeviceStream stream = device.streams().stream(t);
        threads.add(
            Background.run(
                () -> {
                  try (DeviceBuffer buffer = device.allocate(1 << 14, stream)) {
                    while (!over.get()) {
                      stream.fill(buffer, (byte) number);
                      if (last.getAndSet(number, stream.record()) == null) {
                        loaded.countDown();
                      }
                    }
                  }
                }));
      }
      loaded.await();
      for (int round = 0; round < 20; round++) {
        List<DeviceEvent> before = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
          before.add(Objects.requireNonNull(last.get(t)));
        }
        device.synchronize();
        assertThat(before).allMatch(DeviceEvent::query);
        covered.addAndGet(before.size());
      }
      over.set(true);
      for (Background<Boolean> thread : threads) {
        thread.get();
      }
      assertThat(covered).hasValue(160);

      // Two streams fail; six go on. The first failure is thrown, with the other suppressed.
      device.synchronize();
      try (Arena arena = Arena.ofConfined()) {
        for (int t : new int[] {2, 5}) {
          DeviceStream stream = device.streams().stream(t);
          assertThat(mst_test_h.mst_test_fail(arena.allocateFrom("execute"), 1, -8)).isZero();
          try (DeviceBuffer buffer = device.allocate(64, stream)) {
            stream.fill(buffer, (byte) 1);
          }
          stream.record().toFuture().handle((done, failure) -> failure).join();
        }
      }
      DeviceBuffer healthy = device.allocate(64, device.streams().stream(7));
      device.streams().stream(7).fill(healthy, (byte) 9);
      assertThatExceptionOfType(StreamFailedException.class)
          .isThrownBy(device::synchronize)
          .satisfies(
              first -> {
                assertThat(first.streamIndex()).isEqualTo(2);
                assertThat(first.getSuppressed()).hasSize(1);
                assertThat(((StreamFailedException) first.getSuppressed()[0]).streamIndex())
                    .isEqualTo(5);
              });
      assertThat(device.streams().stream(7).query()).as("it was waited for all the same").isTrue();
      healthy.close();
    }
  }

  @Test
  void streamsHandDataOnThroughEvents() throws Exception {
    try (Device device = host(2).open()) {
      int length = 8;
      DeviceBuffer[] cells = new DeviceBuffer[length];
      for (int i = 0; i < length; i++) {
        cells[i] = device.allocate(1 << 16, device.streams().stream(i));
      }
      for (int round = 1; round <= 30; round++) {
        DeviceStream first = device.streams().stream(0);
        first.waitFor(device.streams().stream(length - 1).record());
        first.fill(cells[0], (byte) round);
        for (int i = 1; i < length; i++) {
          DeviceStream next = device.streams().stream(i);
          next.waitFor(device.streams().stream(i - 1).record());
          next.copy(cells[i - 1], 0, cells[i], 0, 1 << 16);
        }
      }
      try (HostView view = cells[length - 1].map()) {
        assertThat(view.bytes().get(65535)).isEqualTo((byte) 30);
      }
      for (DeviceBuffer cell : cells) {
        cell.close();
      }
    }
  }

  /** Each round, a thread of its own writes, then signals or fails; the stream copies. */
  private static void handOver(Device device, int number, ExecutorService writers)
      throws Exception {
    DeviceStream stream = device.streams().stream(number);
    try (DeviceBuffer in = device.allocate(4096, stream);
        DeviceBuffer out = device.allocate(4096, stream);
        HostView source = in.mapUnsafe();
        HostView target = out.mapUnsafe()) {
      for (int round = 1; round <= 300; round++) {
        HostEvent event = device.hostEvent();
        byte value = (byte) round;
        boolean fails = round % 10 == 0;
        IllegalStateException cause = new IllegalStateException("round " + round);
        Runnable write =
            () -> {
              if (fails) {
                event.fail(cause);
                return;
              }
              source.bytes().put(0, value).put(4095, value);
              event.signal();
            };
        Future<?> early = round % 2 == 0 ? writers.submit(write) : null;
        try {
          stream.waitFor(event);
          stream.copy(in, 0, out, 0, 4096);
          Future<?> writer = early != null ? early : writers.submit(write);
          stream.synchronize();
          assertThat(fails).isFalse();
          assertThat(target.bytes().get(0)).isEqualTo(value);
          assertThat(target.bytes().get(4095)).isEqualTo(value);
          writer.get();
        } catch (StreamFailedException e) {
          assertThat(e).hasRootCause(cause);
          stream.reset();
        }
      }
    }
  }

  @Test
  void theHostHandsDataOnThroughEventsOfItsOwn() throws Exception {
    try (Device device = host(2).open();
        ExecutorService writers = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Background<Boolean>> threads = new ArrayList<>();
      for (int i = 1; i <= 4; i++) {
        int number = i;
        Background.Work work = () -> handOver(device, number, writers);
        threads.add(i % 2 == 0 ? Background.runVirtually(work) : Background.run(work));
      }
      for (Background<Boolean> thread : threads) {
        thread.get();
      }
      assertThat(live().get(1) - before.get(1))
          .as("queues: of four streams, and few of the host")
          .isLessThanOrEqualTo(4 + 16 + 4);
    }
  }

  @Test
  void closesWithEventsThatNobodySignals() {
    Device device = host(2).open();
    DeviceStream stream = device.streams().current();
    DeviceBuffer buffer = device.allocate(1 << 16);
    List<HostEvent> events = new ArrayList<>();
    for (int i = 0; i < 50; i++) {
      HostEvent event = device.hostEvent();
      device.streams().stream(i % 8).waitFor(event);
      events.add(event);
    }
    stream.waitFor(events.getLast());
    stream.fill(buffer, (byte) 1);
    stream.flush();
    device.close();
    for (HostEvent event : events) {
      assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(event::await);
    }
  }

  @Test
  void closesWithWorkUnderWayAndBuffersOpen() {
    Device device = host(2).open();
    DeviceStream stream = device.streams().current();
    for (int i = 0; i < 50; i++) {
      DeviceBuffer buffer = device.allocate(1 << 16);
      stream.fill(buffer, (byte) i);
      if (i % 2 == 0) {
        buffer.close();
      }
    }
    device.close();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(stream::synchronize);
  }

  @Test
  void opensAndClosesAgainAndAgain() {
    for (int i = 0; i < 20; i++) {
      try (Device device = host(1).open()) {
        try (Tensor tensor = device.tensor(new float[] {i}, 1)) {
          assertThat(tensor.toFloats()).containsExactly(i);
        }
      }
    }
  }
}
