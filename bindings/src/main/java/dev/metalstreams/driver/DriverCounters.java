package dev.metalstreams.driver;

/**
 * Counts since the device was opened; those of the AGX guard, since the process began.
 *
 * @param matmulsByGraph matrix products encoded by MPSGraph; host: all
 * @param matmulsByNdarray matrix products encoded by MPSNDArrayMatrixMultiplication
 * @param layerNorms layer norms encoded by a kernel of the shim's own
 * @param earlyCommits Metal: command buffers that MPSGraph committed in the middle of an encode
 * @param agxAcquisitions times that an encoder or a destruction took the guard's gate
 * @param agxContentions of these, how many had to wait for another thread
 * @param agxLiveEncoders encoders open at this moment
 * @param agxForcedEnds encoders destroyed, or waited for beyond the guard's limit, while still open
 * @param agxGuard whether the guard is at work
 */
public record DriverCounters(
    long matmulsByGraph,
    long matmulsByNdarray,
    long layerNorms,
    long earlyCommits,
    long agxAcquisitions,
    long agxContentions,
    long agxLiveEncoders,
    long agxForcedEnds,
    AgxGuard agxGuard) {

  /** {@code enum mst_agx_guard} of {@code mst.h}. */
  public enum AgxGuard {
    /** Not asked for. */
    OFF(0),
    /** At work. */
    ON(1),
    /** Asked for, but the driver's encoders are not of the kind that it guards. */
    NO_TARGET(2);

    private final int code;

    AgxGuard(int code) {
      this.code = code;
    }

    /** The number in the C ABI. */
    public int code() {
      return code;
    }

    /**
     * The state with this number.
     *
     * @throws IllegalArgumentException if there is none
     */
    public static AgxGuard of(int code) {
      for (AgxGuard state : values()) {
        if (state.code == code) {
          return state;
        }
      }
      throw new IllegalArgumentException("the guard has no state " + code);
    }
  }
}
