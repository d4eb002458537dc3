package dev.metalstreams.driver;

/**
 * Why a driver refused a call or a command buffer failed: {@code enum mst_status} of {@code mst.h}.
 */
public enum Status {
  /** Null, out of range, overflowing or mismatched. */
  INVALID_ARGUMENT(-1),
  /** The object does not allow this now. */
  INVALID_STATE(-2),
  /** No memory left for this. */
  OUT_OF_MEMORY(-3),
  /** No usable device. */
  NO_DEVICE(-4),
  /** Valid, but not offered by this backend. */
  UNSUPPORTED(-5),
  /** Too many uncompleted command buffers on the queue. */
  BUSY(-6),
  /** A graph could not be compiled. */
  COMPILE(-7),
  /** A command buffer failed on the device. */
  EXECUTION(-8),
  /** A command buffer waited for a value of a failed queue. */
  DEPENDENCY(-9),
  /** The device is gone. */
  DEVICE_LOST(-10),
  /** A defect of the driver. */
  INTERNAL(-11);

  private final int code;

  Status(int code) {
    this.code = code;
  }

  /** The number in the C ABI. */
  public int code() {
    return code;
  }

  /** The status with this number; {@link #INTERNAL} for a number that is not known. */
  public static Status of(int code) {
    for (Status status : values()) {
      if (status.code == code) {
        return status;
      }
    }
    return INTERNAL;
  }
}
