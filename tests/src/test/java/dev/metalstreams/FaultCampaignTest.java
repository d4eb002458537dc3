package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.bindings.abi.mst_test_h;
import dev.metalstreams.bindings.abi.mst_test_live_objects;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Method;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Every function of the C ABI is made to fail, at its first call, its second, … its twentieth,
 * while three threads work on streams of the host shim. Whatever fails: nobody hangs, no result is
 * wrong, what is thrown says what happened, and when the device is closed no native object is left.
 *
 * <p>One command: {@code mvn verify -pl tests -am -Dtest=FaultCampaignTest
 * -Dsurefire.failIfNoSpecifiedTests=false}. It prints the count of cases.
 */
@Timeout(240)
class FaultCampaignTest {
  private static final int CALLS = 20;
  private static final int MOST_ROUNDS = 24;
  private static final int JOBS = 7;
  private static final Duration PATIENCE = Duration.ofSeconds(20);

  /** What a call can be refused with; a command buffer fails with one of the last three. */
  private static final List<Status> STATUSES =
      List.of(Status.INTERNAL, Status.OUT_OF_MEMORY, Status.EXECUTION, Status.DEVICE_LOST);

  private static final Logger LOGGER = Logger.getLogger("dev.metalstreams");
  private static final float[] INPUT = {0.5f, -1, 2, 3, -0.25f, 1};
  private static Level level;
  private static float[] expected;

  private final ConcurrentLinkedQueue<Throwable> wrong = new ConcurrentLinkedQueue<>();
  private final AtomicInteger compared = new AtomicInteger();
  private final AtomicInteger refused = new AtomicInteger();

  @BeforeAll
  static void runOnceWithoutFaults() {
    level = LOGGER.getLevel();
    LOGGER.setLevel(Level.OFF); // refusals are logged where no caller can be told
    try (Device device = device();
        Executable all = device.compile(everything());
        Tensor x = device.tensor(INPUT, 2, 3);
        Tensor y = all.run(x)) {
      expected = y.toFloats();
    }
    assertThat(expected).hasSize(4).doesNotContain(Float.NaN);
  }

  @AfterAll
  static void logAgain() {
    LOGGER.setLevel(level);
  }

  private static Device device() {
    return Device.builder()
        .backend("host")
        .workers(2)
        .mathLibrary("builtin")
        .poolSize(6)
        .graphCacheSize(0) // every compilation calls the library
        .watchdog(Duration.ofSeconds(10))
        .closeTimeout(Duration.ofSeconds(10))
        .open();
  }

  /** Every kind of node. */
  private static Graph everything() {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, 2, 3);
          Node c = g.constant(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);
          Node half = g.cast(g.cast(c, DType.F16), DType.F32);
          Node sum = g.subtract(g.add(x, half), g.multiply(x, x));
          Node quotient = g.divide(sum, c);
          Node curves = g.add(g.relu(quotient), g.add(g.sigmoid(x), g.tanh(x)));
          Node ones = g.constant(new float[] {1, 1, 1}, 3);
          Node normal = g.layerNorm(g.gelu(curves), ones, ones, 1e-5f);
          Node product = g.matmulTransposed(g.softmax(normal), x); // [2, 2]
          Node turned = g.transpose(g.reshape(product, 4, 1), 1, 0); // [1, 4]
          Node joined = g.concat(0, turned, turned); // [2, 4]
          Node part = g.slice(joined, 0, 0, 1); // [1, 4]
          g.output("y", g.add(part, g.mean(joined, true, 0)));
        });
  }

  // ---- the hooks

  private static int order(String function, int n, int status) {
    try (Arena arena = Arena.ofConfined()) {
      return mst_test_h.mst_test_fail(arena.allocateFrom(function), n, status);
    }
  }

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

  /** The functions of {@code mst.h} that return a status, from the bindings. */
  private static Set<String> functions() {
    Set<String> functions = new TreeSet<>();
    for (Method method : mst_h.class.getMethods()) {
      if (method.getName().startsWith("mst_")
          && !method.getName().contains("$")
          && method.getReturnType() == int.class) {
        functions.add(method.getName());
      }
    }
    functions.removeAll(Set.of("mst_abi_version", "mst_device_count")); // a number, no status
    return functions;
  }

  // ---- the load

  /** Failures that a user may meet; all else is a finding. */
  private void attempt(Runnable use) {
    try {
      use.run();
    } catch (CompletionException e) {
      if (!(e.getCause() instanceof MetalStreamsException)) {
        wrong.add(e);
      }
      refused.incrementAndGet();
    } catch (MetalStreamsException e) {
      refused.incrementAndGet();
    } catch (Throwable e) {
      wrong.add(e);
    }
  }

  private void compare(float[] y) {
    compared.incrementAndGet();
    if (!Arrays.equals(y, expected)) {
      wrong.add(new AssertionError("accepted " + Arrays.toString(y)));
    }
  }

  private void job(Device device, DeviceStream stream, DeviceStream other) {
    try (Executable all = device.compile(everything());
        Tensor x = device.tensor(INPUT, 2, 3);
        Tensor y = all.run(stream, x);
        Tensor ones = device.tensor(new float[] {1, 1, 1}, 3);
        Tensor normal = device.empty(DType.F32, 2, 3);
        DeviceBuffer copy = device.allocate(16, other)) {
      other.waitFor(stream.record());
      HostEvent go = device.hostEvent();
      try {
        other.waitFor(go);
        other.fill(copy, (byte) 0);
        other.flush();
      } finally {
        end(go);
      }
      other.copy(y.buffer(), 0, copy, 0, 16);
      other.record().toFuture().join();
      try (HostView view = copy.map()) {
        float[] values = new float[4];
        view.bytes().asFloatBuffer().get(values);
        compare(values);
      }
      compare(y.toFloats());
      assertThat(all.path()).isNotNull();
      stream.layerNorm(x, ones, ones, 1e-5f, normal);
      float[] normalised = normal.toFloats();
      if (Math.abs(normalised[0] + normalised[1] + normalised[2] - 3) > 1e-5) {
        wrong.add(new AssertionError("accepted " + Arrays.toString(normalised)));
      }
    }
  }

  /** A signal that is refused can be given again. */
  private static void end(HostEvent event) {
    try {
      event.signal();
    } catch (DeviceLostException e) {
      event.fail(e);
    } catch (MetalStreamsException e) {
      event.signal();
    }
  }

  /** Work that is cancelled, and a failure that is reset: their functions are called as well. */
  private void cancelAndReset(Device device, DeviceStream stream) {
    if (stream.failure().isPresent()) {
      try {
        stream.synchronize(PATIENCE);
      } catch (StreamFailedException e) {
        // It is why the stream is reset.
      }
      stream.reset();
    }
    try (DeviceBuffer buffer = device.allocate(1 << 16, stream)) {
      stream.fill(buffer, (byte) 1);
      stream.cancel();
    }
  }

  /** On two streams of its own: who resets a stream that others use hides its failure from them. */
  private void work(Device device, int number) {
    for (int i = 0; i < JOBS; i++) {
      attempt(
          () -> {
            StreamPool pool = device.streams();
            job(device, pool.stream(2 * number), pool.stream(2 * number + 1));
          });
      attempt(() -> cancelAndReset(device, device.streams().stream(2 * number)));
      attempt(() -> cancelAndReset(device, device.streams().stream(2 * number + 1)));
      attempt(() -> device.memory().emptyCache());
    }
  }

  /** A device from its opening to its close; false if it could not be opened. */
  private boolean round() throws Exception {
    Device device;
    try {
      device = device();
    } catch (DeviceUnavailableException e) {
      refused.incrementAndGet();
      return false;
    }
    List<Background<Boolean>> threads = new ArrayList<>();
    for (int t = 0; t < 3; t++) {
      int number = t;
      Background.Work work = () -> work(device, number);
      threads.add(t == 2 ? Background.runVirtually(work) : Background.run(work));
    }
    for (Background<Boolean> thread : threads) {
      thread.get(PATIENCE);
    }
    attempt(device::synchronize);
    assertThat(device.memory().stats().allocated()).isZero();
    Background.run(() -> attempt(device::close)).get(PATIENCE);
    return true;
  }

  @Test
  void whateverFailsNobodyHangsNothingIsWrongAndAllIsReleased() throws Exception {
    List<Long> before = live();
    Set<String> functions = functions();
    functions.add("execute");
    List<String> never = new ArrayList<>();
    int cases = 0;
    int carriedOut = 0;
    int rounds = 0;
    for (String function : functions) {
      boolean execute = function.equals("execute");
      int reached = 0;
      for (int n = 1; n <= CALLS; n++) {
        Status status = STATUSES.get((execute ? 1 : 0) + n % (execute ? 3 : 4));
        String name = function + ", call " + n + ", " + status;
        assertThat(order(function, n, status.code())).as(name).isZero();
        boolean resets = function.equals("mst_queue_reset");
        for (int round = 0; round < MOST_ROUNDS && mst_test_h.mst_test_ordered() > 0; round++) {
          if (resets) { // nothing is reset that has not failed
            order("execute", 2 + round % 5, Status.EXECUTION.code());
          }
          round();
          if (resets) {
            order("execute", 0, 0);
          }
          rounds++;
          if (NEVER_CALLED.contains(function)) {
            break;
          }
        }
        cases++;
        if (mst_test_h.mst_test_ordered() == 0) {
          carriedOut++;
          reached++;
        }
        order(function, 0, 0);
        assertThat(wrong).as(name).isEmpty();
        assertThat(live()).as("left behind after " + name).isEqualTo(before);
      }
      if (reached == 0) {
        never.add(function);
      }
    }
    System.out.printf(
        "fault campaign: %d functions, %d cases, %d failures injected, %d rounds; %d results"
            + " compared, %d uses refused%n",
        functions.size(), cases, carriedOut, rounds, compared.get(), refused.get());
    assertThat(never).as("functions that the core never calls").isEqualTo(NEVER_CALLED);
    assertThat(compared.get()).isGreaterThan(carriedOut);
  }

  /** Of the ABI, but of no use to the core. */
  private static final List<String> NEVER_CALLED = List.of("mst_device_counters");

  @Test
  void whatIsRefusedIsNeverAnExceptionOfTheDriver() {
    attempt(
        () -> {
          throw new DriverException(Status.INTERNAL, "not translated");
        });
    assertThat(wrong).as("the campaign would notice").hasSize(1);
  }
}
