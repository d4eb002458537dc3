package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import com.sun.management.ThreadMXBean;
import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.bindings.abi.mst_test_h;
import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.lang.foreign.FunctionDescriptor;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.ServiceLoader;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * What is this driver's own: the rest is in the conformance tests, which every driver must pass.
 */
@Timeout(60)
class FfmDriverTest {
  private static final GraphSpec RELU =
      new GraphSpec(
          List.of(
              new NodeSpec.Input(ElementType.F32, List.of(4L)),
              new NodeSpec.Unary(NodeSpec.UnaryOperation.RELU, 0)),
          List.of(1));

  private static Driver open() {
    return open("auto");
  }

  private static Driver open(String math) {
    return new FfmDriverProvider().open(new DriverOptions("host", "", 1, math));
  }

  @Test
  void itIsFoundAsAService() {
    assertThat(ServiceLoader.load(DriverProvider.class))
        .hasAtLeastOneElementOfType(FfmDriverProvider.class);
  }

  @Test
  void infoSaysWhatWasLoaded() {
    try (Driver driver = open()) {
      assertThat(driver.info().backend()).isEqualTo("host");
      assertThat(driver.info().workers()).isEqualTo(1);
      assertThat(driver.info().maxInFlight()).isEqualTo(mst_h.MST_MAX_IN_FLIGHT());
      assertThat(driver.info().abiVersion()).isEqualTo(mst_h.MST_ABI_VERSION());
      assertThat(driver.info().buildId()).matches("[0-9a-f]{16}");
      assertThat(driver.info().library()).endsWith(Platform.current().libraryName("host"));
      assertThat(driver.info()).isSameAs(driver.info());
    }
  }

  @Test
  void theMathLibraryIsTheOneAskedFor() {
    try (Driver packed = open("auto");
        Driver builtin = open("builtin")) {
      // OpenBLAS comes with the build on Linux, Accelerate with every Mac.
      assertThat(packed.info().math()).containsAnyOf("OpenBLAS", "Accelerate");
      assertThat(builtin.info().math()).doesNotContain("OpenBLAS").doesNotContain("Accelerate");
    }
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> open("/missing/libblas.so"))
        .withMessageContaining("/missing/libblas.so")
        .extracting(DriverException::status)
        .isEqualTo(Status.INVALID_ARGUMENT);
  }

  @Test
  void negativeWorkersAreRefused() {
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(
            () -> new FfmDriverProvider().open(new DriverOptions("host", "", -1, "builtin")))
        .withMessageContaining("-1 workers");
  }

  @Test
  void aRefusalCarriesTheLibrarysStatusAndWords() {
    try (Driver driver = open()) {
      long queue = driver.createQueue(1, "test", 4);
      assertThatExceptionOfType(DriverException.class)
          .isThrownBy(() -> driver.commit(queue, 1, Driver.COMMIT_DEFAULT))
          .satisfies(
              e -> {
                assertThat(e.status()).isEqualTo(Status.INVALID_STATE);
                assertThat(e.getMessage()).isNotBlank().doesNotContain("status");
              });
      driver.destroyQueue(queue);
    }
  }

  @Test
  void contentsAreABoundedViewInNativeOrder() {
    try (Driver driver = open()) {
      long buffer = driver.createBuffer(64);
      ByteBuffer part = driver.contents(buffer, 16, 8);

      assertThat(part.order()).isEqualTo(ByteOrder.nativeOrder());
      assertThat(part.isDirect()).isTrue();
      assertThat(part.capacity()).isEqualTo(8);
      part.putLong(0, 42);
      assertThat(driver.contents(buffer, 0, 64).getLong(16)).isEqualTo(42);
      for (long offset : new long[] {-1, 57, Long.MAX_VALUE}) {
        assertThatExceptionOfType(DriverException.class)
            .isThrownBy(() -> driver.contents(buffer, offset, 8));
      }
      driver.destroyBuffer(buffer);
      assertThatExceptionOfType(DriverException.class)
          .isThrownBy(() -> driver.contents(buffer, 0, 8));
    }
  }

  @Test
  void contentsStayWhereABufferIsNotGivenBack() {
    try (Driver driver = open()) {
      long queue = driver.createQueue(1, "test", 4);
      long buffer = driver.createBuffer(64);
      driver.begin(queue, 1);
      driver.encodeFill(queue, 1, buffer, 0, 64, (byte) 7);

      assertThatExceptionOfType(DriverException.class)
          .isThrownBy(() -> driver.destroyBuffer(buffer));

      driver.commit(queue, 1, Driver.COMMIT_DEFAULT);
      assertThat(driver.awaitValue(queue, 1, TimeUnit.SECONDS.toNanos(30))).isTrue();
      assertThat(driver.contents(buffer, 63, 1).get(0)).isEqualTo((byte) 7);
      driver.destroyBuffer(buffer);
      driver.destroyQueue(queue);
    }
  }

  /** The carriers of every handle are those of the method that the driver calls. */
  @Test
  void descriptorsAreThoseOfTheMethods() throws ReflectiveOperationException {
    open().close(); // the library is there now
    for (Class<?> functions : List.of(mst_h.class, mst_test_h.class)) {
      for (Method method : functions.getDeclaredMethods()) {
        if (method.getName().startsWith("mst_") && !method.getName().contains("$")) {
          FunctionDescriptor descriptor =
              (FunctionDescriptor)
                  functions.getMethod(method.getName() + "$descriptor").invoke(null);
          assertThat(descriptor.toMethodType().parameterArray())
              .as(method.getName())
              .isEqualTo(method.getParameterTypes());
          assertThat(descriptor.toMethodType().returnType())
              .as(method.getName())
              .isEqualTo(method.getReturnType());
        }
      }
    }
  }

  @Test
  void closeEndsAWaitForCompletions() throws Exception {
    Driver driver = open();
    try (ExecutorService executor = Executors.newSingleThreadExecutor()) {
      CountDownLatch started = new CountDownLatch(1);
      Future<Integer> waiting =
          executor.submit(
              () -> {
                started.countDown();
                return driver.nextCompletions((q, v, s, e, f) -> {}, TimeUnit.HOURS.toNanos(1));
              });
      started.await();

      driver.close();

      // Either it was inside, and was woken; or it came too late, and was refused.
      try {
        assertThat(waiting.get()).isZero();
      } catch (ExecutionException e) {
        assertThat(e).hasRootCauseMessage("the device is closed");
      }
    }
  }

  @Test
  void afterCloseTheDeviceIsRefusedAndItsObjectsCanBeGivenBack() {
    Driver driver = open();
    long queue = driver.createQueue(1, "test", 4);
    long buffer = driver.createBuffer(16);
    long executable = driver.compile(RELU);
    driver.close();
    driver.close();

    List<Callable<?>> calls =
        List.of(
            driver::memory,
            () -> driver.createBuffer(16),
            () -> driver.createQueue(2, "late", 4),
            () -> driver.compile(RELU),
            () -> driver.nextCompletions((q, v, s, e, f) -> {}, 0));
    for (Callable<?> call : calls) {
      assertThatExceptionOfType(DriverException.class)
          .isThrownBy(call::call)
          .withMessage("the device is closed")
          .extracting(DriverException::status)
          .isEqualTo(Status.INVALID_STATE);
    }
    driver.destroyQueue(queue);
    driver.destroyBuffer(buffer);
    driver.destroyExecutable(executable);
  }

  @Test
  void manyMayCloseAtOnce() throws Exception {
    for (int round = 0; round < 20; round++) {
      Driver driver = open("builtin");
      CountDownLatch start = new CountDownLatch(1);
      try (ExecutorService executor = Executors.newFixedThreadPool(4)) {
        List<Future<?>> closers =
            Stream.<Future<?>>generate(
                    () ->
                        executor.submit(
                            () -> {
                              start.await();
                              driver.close();
                              return null;
                            }))
                .limit(4)
                .toList();
        start.countDown();
        for (Future<?> closer : closers) {
          closer.get();
        }
      }
    }
  }

  /**
   * Once compiled, a command buffer costs no garbage. Rounds go on until one shows it, so that how
   * soon the JIT compiler comes does not matter; if a call did allocate, none ever would.
   */
  @Test
  void anOperationAllocatesNothing() {
    int operations = 2000;
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (Driver driver = open("builtin")) {
      long queue = driver.createQueue(1, "test", 64);
      long other = driver.createQueue(2, "other", 64);
      long in = driver.createBuffer(16);
      long out = driver.createBuffer(16);
      long executable = driver.compile(RELU);
      Arguments arguments = driver.newArguments(2);
      floats(driver, in).put(0, -1).put(1, 2);
      long value = 0;
      long allocated;
      do {
        long before = threads.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < operations; i++) {
          value++;
          driver.begin(queue, value);
          arguments.set(0, in);
          arguments.set(1, out);
          driver.encodeExecutable(queue, value, executable, arguments, 2);
          driver.encodeFill(queue, value, in, 8, 8, (byte) 0);
          driver.encodeCopy(queue, value, in, 0, in, 8, 4);
          driver.encodeWait(queue, value, other, driver.completedValue(other));
          driver.commit(queue, value, Driver.COMMIT_WAITING);
          if (!driver.awaitValue(queue, value, TimeUnit.SECONDS.toNanos(30))
              || driver.failedValue(queue) != 0) {
            throw new AssertionError("value " + value);
          }
          // Completions are drained as core does, by one thread.
          driver.nextCompletions((q, v, s, e, f) -> {}, 0);
        }
        allocated = threads.getCurrentThreadAllocatedBytes() - before;
      } while (allocated > operations);

      assertThat(floats(driver, out).get(0)).isZero();
      assertThat(floats(driver, out).get(1)).isEqualTo(2);
      driver.destroyExecutable(executable);
      driver.destroyBuffer(in);
      driver.destroyBuffer(out);
      driver.destroyQueue(queue);
      driver.destroyQueue(other);
    }
  }

  private static FloatBuffer floats(Driver driver, long buffer) {
    return driver.contents(buffer, 0, 16).asFloatBuffer();
  }
}
