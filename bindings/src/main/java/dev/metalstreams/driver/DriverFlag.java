package dev.metalstreams.driver;

/**
 * Ways to open a device: {@code enum mst_device_flags} of {@code mst.h}. Other backends than Metal
 * ignore them.
 */
public enum DriverFlag {
  /** Matrix products always by MPSGraph. */
  FORCE_GRAPH(1),
  /** Compute kernels of several queues are encoded at once, without a lock of the process. */
  PARALLEL_COMPUTE(2),
  /**
   * Keeps open encoders apart from the driver's destruction of others; stays on until the process
   * ends.
   */
  AGX_GUARD(4);

  private final int bit;

  DriverFlag(int bit) {
    this.bit = bit;
  }

  /** The flag in the C ABI. */
  public int bit() {
    return bit;
  }
}
