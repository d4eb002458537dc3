package dev.metalstreams.driver;

/**
 * What computes the matrix products of an executable: {@code enum mst_matmul_path} of {@code
 * mst.h}.
 */
public enum MatmulPath {
  /** It has none. */
  NONE(0),
  /** The CPU; {@link DeviceInfo#math} says by what. */
  CPU(1),
  /** MPSGraph. */
  GRAPH(2),
  /** MPSNDArrayMatrixMultiplication. */
  NDARRAY(3);

  private final int code;

  MatmulPath(int code) {
    this.code = code;
  }

  /** The number in the C ABI. */
  public int code() {
    return code;
  }

  /**
   * The path with this number.
   *
   * @throws IllegalArgumentException if there is none
   */
  public static MatmulPath of(int code) {
    for (MatmulPath path : values()) {
      if (path.code == code) {
        return path;
      }
    }
    throw new IllegalArgumentException("there is no path " + code);
  }
}
