package dev.metalstreams.conformance;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.bindings.abi.mst_test_h;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Field;
import java.util.ServiceLoader;

/**
 * A shim through the native bindings, with the test hooks of the host shim. The Metal shim has them
 * when it is built on the simulated Metal.
 */
final class NativeSubject implements Subject {
  private final DriverOptions options;
  private final long seed;

  private NativeSubject(DriverOptions options, long seed) {
    this.options = options;
    this.seed = seed;
  }

  /**
   * The host shim.
   *
   * @param library a library of its own; "" for the packed one
   * @param workers executing threads
   * @param math what computes matrix products
   * @param seed draws which queue goes next; 0 for the oldest command buffer
   */
  static NativeSubject host(String library, int workers, String math, long seed) {
    return new NativeSubject(new DriverOptions("host", library, workers, math), seed);
  }

  /** The Metal shim in a library of its own. */
  static NativeSubject metal(String library) {
    return new NativeSubject(new DriverOptions("metal", library, 0, "auto"), 0);
  }

  @Override
  public Driver open() {
    Driver driver =
        ServiceLoader.load(DriverProvider.class).findFirst().orElseThrow().open(options);
    check(mst_test_h.mst_test_seed(device(driver), seed));
    return driver;
  }

  @Override
  public void hold(Driver driver, long queue) {
    check(mst_test_h.mst_test_hold(MemorySegment.ofAddress(queue)));
  }

  @Override
  public void release(Driver driver, long queue) {
    check(mst_test_h.mst_test_release(MemorySegment.ofAddress(queue)));
  }

  @Override
  public void failNext(Driver driver, long queue) {
    try (Arena arena = Arena.ofConfined()) {
      check(mst_test_h.mst_test_fail(arena.allocateFrom("execute"), 1, Status.EXECUTION.code()));
    }
  }

  @Override
  public void awaitStruck() {
    while (mst_test_h.mst_test_ordered() > 0) {
      Thread.onSpinWait();
    }
  }

  @Override
  public void memoryLimit(Driver driver, long bytes) {
    check(mst_test_h.mst_test_memory_limit(device(driver), bytes));
  }

  @Override
  public boolean stopsAtFailedWaits() {
    return options.backend().equals("host");
  }

  /** The native device of a driver: hooks are not part of the driver. */
  static MemorySegment device(Driver driver) {
    try {
      Field field = driver.getClass().getDeclaredField("device");
      field.setAccessible(true);
      return (MemorySegment) field.get(driver);
    } catch (ReflectiveOperationException e) {
      throw new LinkageError("the driver of the bindings keeps its device in a field", e);
    }
  }

  private static void check(int status) {
    if (status != mst_h.MST_OK()) {
      throw new AssertionError("a test hook was refused: " + status);
    }
  }
}
