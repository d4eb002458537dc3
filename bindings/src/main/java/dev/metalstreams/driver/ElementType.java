package dev.metalstreams.driver;

/** Types of tensor elements: {@code enum mst_dtype} of {@code mst.h}. */
public enum ElementType {
  /** IEEE 754 binary32. */
  F32(1, 4),
  /** IEEE 754 binary16, for storage. */
  F16(2, 2);

  private final int code;
  private final int bytes;

  ElementType(int code, int bytes) {
    this.code = code;
    this.bytes = bytes;
  }

  /** The number in the C ABI. */
  public int code() {
    return code;
  }

  /** Bytes of one element. */
  public int bytes() {
    return bytes;
  }
}
