package dev.metalstreams.script;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.util.Arrays;

/** The shape rules of {@code mst.h}. */
final class Shapes {
  static final int MAX_RANK = 8;

  private Shapes() {}

  /** The number of elements; refuses what the ABI refuses. */
  static long elements(long[] shape, int elementBytes) {
    if (shape.length > MAX_RANK) {
      throw refused("rank " + shape.length + " is more than " + MAX_RANK);
    }
    long elements = 1;
    for (long dim : shape) {
      if (dim <= 0) {
        throw refused("dimension " + dim + " in " + Arrays.toString(shape));
      }
      try {
        elements = Math.multiplyExact(elements, dim);
      } catch (ArithmeticException e) {
        throw refused("the size of " + Arrays.toString(shape) + " overflows");
      }
    }
    try {
      Math.multiplyExact(elements, elementBytes);
    } catch (ArithmeticException e) {
      throw refused("the size of " + Arrays.toString(shape) + " overflows");
    }
    return elements;
  }

  static long[] matmul(long[] a, long[] b, boolean transposeB) {
    String what = "matmul of " + Arrays.toString(a) + " and " + Arrays.toString(b);
    if (a.length < 2 || b.length < 2) {
      throw refused(what + ": ranks must be 2 at least");
    }
    boolean shared = b.length == 2;
    if (!shared && !Arrays.equals(Arrays.copyOf(a, a.length - 2), Arrays.copyOf(b, b.length - 2))) {
      throw refused(what + ": leading dimensions differ");
    }
    long inner = transposeB ? b[b.length - 1] : b[b.length - 2];
    if (a[a.length - 1] != inner) {
      throw refused(what + ": inner dimensions differ");
    }
    long[] shape = a.clone();
    shape[shape.length - 1] = transposeB ? b[b.length - 2] : b[b.length - 1];
    return shape;
  }

  static long[] broadcast(long[] a, long[] b) {
    int rank = Math.max(a.length, b.length);
    long[] shape = new long[rank];
    for (int i = 0; i < rank; i++) {
      long x = i < rank - a.length ? 1 : a[i - (rank - a.length)];
      long y = i < rank - b.length ? 1 : b[i - (rank - b.length)];
      if (x != y && x != 1 && y != 1) {
        throw refused(
            "add of " + Arrays.toString(a) + " and " + Arrays.toString(b) + " does not broadcast");
      }
      shape[i] = Math.max(x, y);
    }
    return shape;
  }

  private static DriverException refused(String message) {
    return new DriverException(Status.INVALID_ARGUMENT, message);
  }
}
