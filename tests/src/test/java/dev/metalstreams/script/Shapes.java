package dev.metalstreams.script;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;

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

  /** The shape of a node, whose operands exist. */
  static long[] of(NodeSpec node, List<long[]> shapes) {
    if (node instanceof NodeSpec.Input input) {
      return array(input.shape());
    } else if (node instanceof NodeSpec.Constant constant) {
      long[] shape = array(constant.shape());
      if (elements(shape, constant.type().bytes()) * constant.type().bytes()
          != constant.data().byteSize()) {
        throw refused(constant.data() + " are no " + Arrays.toString(shape));
      }
      return shape;
    } else if (node instanceof NodeSpec.Cast cast) {
      return shapes.get(cast.a());
    } else if (node instanceof NodeSpec.MatMul matmul) {
      return matmul(shapes.get(matmul.a()), shapes.get(matmul.b()), matmul);
    } else if (node instanceof NodeSpec.Binary binary) {
      return broadcast(shapes.get(binary.a()), shapes.get(binary.b()));
    } else if (node instanceof NodeSpec.Unary unary) {
      return shapes.get(unary.a());
    } else if (node instanceof NodeSpec.Softmax softmax) {
      return rows(shapes.get(softmax.a()));
    } else if (node instanceof NodeSpec.LayerNorm norm) {
      long[] shape = rows(shapes.get(norm.a()));
      long[] parameter = {shape[shape.length - 1]};
      if (!Arrays.equals(shapes.get(norm.gamma()), parameter)
          || !Arrays.equals(shapes.get(norm.beta()), parameter)
          || !(norm.eps() >= 0)
          || Float.isInfinite(norm.eps())) {
        throw refused(norm + " of " + Arrays.toString(shape));
      }
      return shape;
    } else if (node instanceof NodeSpec.Mean mean) {
      return mean(shapes.get(mean.a()), mean);
    } else if (node instanceof NodeSpec.Reshape reshape) {
      long[] shape = array(reshape.shape());
      if (elements(shape, 1) != elements(shapes.get(reshape.a()), 1)) {
        throw refused(reshape + " of " + Arrays.toString(shapes.get(reshape.a())));
      }
      return shape;
    } else if (node instanceof NodeSpec.Transpose transpose) {
      return transpose(shapes.get(transpose.a()), transpose.permutation());
    } else if (node instanceof NodeSpec.Concat concat) {
      return concat(concat.nodes().stream().map(shapes::get).toList(), concat.axis());
    } else if (node instanceof NodeSpec.Slice slice) {
      return slice(shapes.get(slice.a()), slice);
    }
    throw new AssertionError("no shape rule for " + node);
  }

  private static long[] array(List<Long> shape) {
    return shape.stream().mapToLong(Long::longValue).toArray();
  }

  private static long[] rows(long[] shape) {
    if (shape.length == 0) {
      throw refused("there is no last axis");
    }
    return shape;
  }

  private static long[] matmul(long[] a, long[] b, NodeSpec.MatMul node) {
    String what = node + " of " + Arrays.toString(a) + " and " + Arrays.toString(b);
    if (a.length < 2 || b.length < 2) {
      throw refused(what + ": ranks must be 2 at least");
    }
    boolean shared = b.length == 2;
    if (!shared && !Arrays.equals(Arrays.copyOf(a, a.length - 2), Arrays.copyOf(b, b.length - 2))) {
      throw refused(what + ": leading dimensions differ");
    }
    if (a[a.length - (node.transposeA() ? 2 : 1)] != b[b.length - (node.transposeB() ? 1 : 2)]) {
      throw refused(what + ": inner dimensions differ");
    }
    long[] shape = a.clone();
    shape[shape.length - 2] = a[a.length - (node.transposeA() ? 1 : 2)];
    shape[shape.length - 1] = b[b.length - (node.transposeB() ? 2 : 1)];
    return shape;
  }

  private static long[] broadcast(long[] a, long[] b) {
    int rank = Math.max(a.length, b.length);
    long[] shape = new long[rank];
    for (int i = 0; i < rank; i++) {
      long x = i < rank - a.length ? 1 : a[i - (rank - a.length)];
      long y = i < rank - b.length ? 1 : b[i - (rank - b.length)];
      if (x != y && x != 1 && y != 1) {
        throw refused(Arrays.toString(a) + " and " + Arrays.toString(b) + " do not broadcast");
      }
      shape[i] = Math.max(x, y);
    }
    return shape;
  }

  private static long[] mean(long[] shape, NodeSpec.Mean node) {
    Set<Integer> axes = new HashSet<>(node.axes());
    boolean inside = axes.stream().allMatch(axis -> axis >= 0 && axis < shape.length);
    if (axes.isEmpty() || axes.size() != node.axes().size() || !inside) {
      throw refused(node + " of " + Arrays.toString(shape));
    }
    return IntStream.range(0, shape.length)
        .filter(axis -> node.keepDims() || !axes.contains(axis))
        .mapToLong(axis -> axes.contains(axis) ? 1 : shape[axis])
        .toArray();
  }

  private static long[] transpose(long[] shape, List<Integer> permutation) {
    List<Integer> sorted = permutation.stream().sorted().toList();
    if (!sorted.equals(IntStream.range(0, shape.length).boxed().toList())) {
      throw refused("permutation " + permutation + " of " + Arrays.toString(shape));
    }
    return permutation.stream().mapToLong(axis -> shape[axis]).toArray();
  }

  private static long[] concat(List<long[]> shapes, int axis) {
    if (shapes.isEmpty() || axis < 0 || axis >= shapes.getFirst().length) {
      throw refused("concat along " + axis);
    }
    long[] result = shapes.getFirst().clone();
    result[axis] = 0;
    for (long[] shape : shapes) {
      long[] rest = shape.clone();
      if (rest.length == result.length) {
        rest[axis] = result[axis];
      }
      if (!Arrays.equals(rest, result)) {
        throw refused("concat with " + Arrays.toString(shape));
      }
      result[axis] += shape[axis];
    }
    return result;
  }

  private static long[] slice(long[] shape, NodeSpec.Slice node) {
    long[] starts = array(node.starts());
    long[] ends = array(node.ends());
    if (shape.length == 0 || starts.length != shape.length || ends.length != shape.length) {
      throw refused(node + " of " + Arrays.toString(shape));
    }
    long[] result = new long[shape.length];
    for (int axis = 0; axis < shape.length; axis++) {
      if (starts[axis] < 0 || starts[axis] >= ends[axis] || ends[axis] > shape[axis]) {
        throw refused(node + " of " + Arrays.toString(shape));
      }
      result[axis] = ends[axis] - starts[axis];
    }
    return result;
  }

  private static DriverException refused(String message) {
    return new DriverException(Status.INVALID_ARGUMENT, message);
  }
}
