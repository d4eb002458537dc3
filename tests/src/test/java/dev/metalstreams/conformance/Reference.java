package dev.metalstreams.conformance;

import dev.metalstreams.driver.ConstantData;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.script.Erf;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.DoubleBinaryOperator;
import java.util.function.DoubleUnaryOperator;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/**
 * The operations by their definitions, coordinate by coordinate and in doubles: slow, and written
 * to share nothing with what it checks.
 */
final class Reference {
  private Reference() {}

  /** Builds a graph in the order in which nodes are named. */
  static final class Nodes {
    private final List<NodeSpec> nodes = new ArrayList<>();
    private final List<Integer> outputs = new ArrayList<>();

    int input(long... shape) {
      List<Long> dims = new ArrayList<>();
      for (long dim : shape) {
        dims.add(dim);
      }
      return add(new NodeSpec.Input(ElementType.F32, dims));
    }

    int half(long... shape) {
      int input = input(shape);
      NodeSpec.Input full = (NodeSpec.Input) nodes.get(input);
      nodes.set(input, new NodeSpec.Input(ElementType.F16, full.shape()));
      return input;
    }

    int constant(float[] values, long... shape) {
      ByteBuffer bytes = ByteBuffer.allocate(values.length * 4).order(ByteOrder.nativeOrder());
      bytes.asFloatBuffer().put(values);
      return add(
          new NodeSpec.Constant(
              ElementType.F32, Arrays.stream(shape).boxed().toList(), ConstantData.copyOf(bytes)));
    }

    int cast(int a, ElementType type) {
      return add(new NodeSpec.Cast(a, type));
    }

    int matmul(int a, int b) {
      return add(new NodeSpec.MatMul(a, b, false, false));
    }

    int matmulTransposed(int a, int b) {
      return add(new NodeSpec.MatMul(a, b, false, true));
    }

    int matmul(int a, boolean transposeA, int b, boolean transposeB) {
      return add(new NodeSpec.MatMul(a, b, transposeA, transposeB));
    }

    int sum(int a, int b) {
      return binary(NodeSpec.BinaryOperation.ADD, a, b);
    }

    int binary(NodeSpec.BinaryOperation operation, int a, int b) {
      return add(new NodeSpec.Binary(operation, a, b));
    }

    int relu(int a) {
      return unary(NodeSpec.UnaryOperation.RELU, a);
    }

    int unary(NodeSpec.UnaryOperation operation, int a) {
      return add(new NodeSpec.Unary(operation, a));
    }

    int softmax(int a) {
      return add(new NodeSpec.Softmax(a));
    }

    int layerNorm(int a, int gamma, int beta, float eps) {
      return add(new NodeSpec.LayerNorm(a, gamma, beta, eps));
    }

    int mean(int a, boolean keepDims, Integer... axes) {
      return add(new NodeSpec.Mean(a, List.of(axes), keepDims));
    }

    int reshape(int a, Long... shape) {
      return add(new NodeSpec.Reshape(a, List.of(shape)));
    }

    int transpose(int a, Integer... permutation) {
      return add(new NodeSpec.Transpose(a, List.of(permutation)));
    }

    int concat(int axis, Integer... nodes) {
      return add(new NodeSpec.Concat(List.of(nodes), axis));
    }

    int slice(int a, List<Long> starts, List<Long> ends) {
      return add(new NodeSpec.Slice(a, starts, ends));
    }

    Nodes output(int node) {
      outputs.add(node);
      return this;
    }

    GraphSpec spec() {
      return new GraphSpec(nodes, outputs);
    }

    private int add(NodeSpec node) {
      nodes.add(node);
      return nodes.size() - 1;
    }
  }

  /** A tensor whose elements are found by their coordinates. */
  private record Value(List<Integer> shape, Map<List<Integer>, Double> elements) {
    double at(List<Integer> position) {
      return Objects.requireNonNull(elements.get(position));
    }
  }

  /** The first output of a graph. */
  static float[] evaluate(GraphSpec graph, float[]... inputs) {
    List<Value> values = new ArrayList<>();
    int input = 0;
    for (NodeSpec node : graph.nodes()) {
      if (node instanceof NodeSpec.Input in) {
        float[] given = inputs[input++];
        values.add(
            map(
                given(dims(in.shape()), given),
                x -> in.type() == ElementType.F16 ? rounded(x) : x));
      } else {
        values.add(compute(node, values));
      }
    }
    Value result = values.get(graph.outputs().getFirst());
    List<List<Integer>> positions = positions(result.shape);
    float[] flat = new float[positions.size()];
    for (int i = 0; i < flat.length; i++) {
      flat[i] = (float) result.at(positions.get(i));
    }
    return flat;
  }

  private static Value compute(NodeSpec node, List<Value> values) {
    if (node instanceof NodeSpec.Constant constant) {
      return given(dims(constant.shape()), floats(constant));
    } else if (node instanceof NodeSpec.Cast cast) {
      return map(
          values.get(cast.a()), x -> cast.type() == ElementType.F16 ? rounded((float) x) : x);
    } else if (node instanceof NodeSpec.MatMul matmul) {
      Value a = values.get(matmul.a());
      Value b = values.get(matmul.b());
      return product(matmul.transposeA() ? swapped(a) : a, matmul.transposeB() ? swapped(b) : b);
    } else if (node instanceof NodeSpec.Binary binary) {
      return combined(
          values.get(binary.a()),
          values.get(binary.b()),
          switch (binary.operation()) {
            case ADD -> (a, b) -> a + b;
            case SUBTRACT -> (a, b) -> a - b;
            case MULTIPLY -> (a, b) -> a * b;
            case DIVIDE -> (a, b) -> a / b;
          });
    } else if (node instanceof NodeSpec.Unary unary) {
      return map(
          values.get(unary.a()),
          switch (unary.operation()) {
            case RELU -> x -> Double.isNaN(x) ? x : Math.max(x, 0);
            case SIGMOID -> x -> 1 / (1 + Math.exp(-x));
            case TANH -> Math::tanh;
            case GELU -> x -> x / 2 * (1 + Erf.erf(x / Math.sqrt(2)));
            case GELU_TANH ->
                x -> x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
          });
    } else if (node instanceof NodeSpec.Softmax softmax) {
      return softmax(values.get(softmax.a()));
    } else if (node instanceof NodeSpec.LayerNorm norm) {
      return layerNorm(
          values.get(norm.a()), values.get(norm.gamma()), values.get(norm.beta()), norm.eps());
    } else if (node instanceof NodeSpec.Mean mean) {
      return mean(values.get(mean.a()), mean.axes(), mean.keepDims());
    } else if (node instanceof NodeSpec.Reshape reshape) {
      Value a = values.get(reshape.a());
      List<Integer> shape = dims(reshape.shape());
      List<List<Integer>> from = positions(a.shape);
      List<List<Integer>> to = positions(shape);
      Map<List<Integer>, Double> elements = new HashMap<>();
      for (int i = 0; i < to.size(); i++) {
        elements.put(to.get(i), a.at(from.get(i)));
      }
      return new Value(shape, elements);
    } else if (node instanceof NodeSpec.Transpose transpose) {
      return transposed(values.get(transpose.a()), transpose.permutation());
    } else if (node instanceof NodeSpec.Concat concat) {
      return concatenated(concat.nodes().stream().map(values::get).toList(), concat.axis());
    } else if (node instanceof NodeSpec.Slice slice) {
      Value a = values.get(slice.a());
      List<Integer> shape = new ArrayList<>();
      for (int axis = 0; axis < a.shape.size(); axis++) {
        shape.add(Math.toIntExact(slice.ends().get(axis) - slice.starts().get(axis)));
      }
      return make(
          shape,
          position -> {
            List<Integer> from = new ArrayList<>();
            for (int axis = 0; axis < position.size(); axis++) {
              from.add(position.get(axis) + Math.toIntExact(slice.starts().get(axis)));
            }
            return a.at(from);
          });
    }
    throw new AssertionError("no reference for " + node);
  }

  /** The elements of a constant. */
  static float[] floats(NodeSpec.Constant constant) {
    ByteBuffer bytes = constant.data().bytes();
    float[] elements = new float[constant.data().byteSize() / constant.type().bytes()];
    for (int i = 0; i < elements.length; i++) {
      elements[i] =
          constant.type() == ElementType.F16
              ? Float.float16ToFloat(bytes.getShort(2 * i))
              : bytes.getFloat(4 * i);
    }
    return elements;
  }

  private static double rounded(double x) {
    return Float.float16ToFloat(Float.floatToFloat16((float) x));
  }

  private static List<Integer> dims(List<Long> shape) {
    return shape.stream().map(Math::toIntExact).toList();
  }

  private static Value make(List<Integer> shape, ToDoubleFunction<List<Integer>> element) {
    Map<List<Integer>, Double> elements = new HashMap<>();
    for (List<Integer> position : positions(shape)) {
      elements.put(position, element.applyAsDouble(position));
    }
    return new Value(shape, elements);
  }

  private static Value map(Value a, DoubleUnaryOperator function) {
    return make(a.shape, position -> function.applyAsDouble(a.at(position)));
  }

  private static Value swapped(Value a) {
    List<Integer> permutation =
        new ArrayList<>(IntStream.range(0, a.shape.size()).boxed().toList());
    Collections.swap(permutation, a.shape.size() - 1, a.shape.size() - 2);
    return transposed(a, permutation);
  }

  private static Value transposed(Value a, List<Integer> permutation) {
    return make(
        permutation.stream().map(a.shape::get).toList(),
        position -> {
          List<Integer> from = new ArrayList<>(position);
          for (int axis = 0; axis < position.size(); axis++) {
            from.set(permutation.get(axis), position.get(axis));
          }
          return a.at(from);
        });
  }

  private static Value concatenated(List<Value> values, int axis) {
    List<Integer> shape = new ArrayList<>(values.getFirst().shape);
    shape.set(axis, values.stream().mapToInt(value -> value.shape.get(axis)).sum());
    return make(
        shape,
        position -> {
          List<Integer> from = new ArrayList<>(position);
          for (Value value : values) {
            if (from.get(axis) < value.shape.get(axis)) {
              return value.at(from);
            }
            from.set(axis, from.get(axis) - value.shape.get(axis));
          }
          throw new AssertionError(position);
        });
  }

  /** The rows of a tensor: the positions that differ in the last coordinate only. */
  private static List<List<Integer>> row(List<Integer> position, Value a) {
    List<List<Integer>> row = new ArrayList<>();
    for (int i = 0; i < a.shape.getLast(); i++) {
      List<Integer> each = new ArrayList<>(position);
      each.set(position.size() - 1, i);
      row.add(each);
    }
    return row;
  }

  private static Value softmax(Value a) {
    return make(
        a.shape,
        position -> {
          double greatest = row(position, a).stream().mapToDouble(a::at).max().orElseThrow();
          double sum =
              row(position, a).stream().mapToDouble(p -> Math.exp(a.at(p) - greatest)).sum();
          return Math.exp(a.at(position) - greatest) / sum;
        });
  }

  private static Value layerNorm(Value a, Value gamma, Value beta, double eps) {
    return make(
        a.shape,
        position -> {
          double mean = row(position, a).stream().mapToDouble(a::at).average().orElseThrow();
          double variance =
              row(position, a).stream()
                  .mapToDouble(p -> Math.pow(a.at(p) - mean, 2))
                  .average()
                  .orElseThrow();
          List<Integer> column = List.of(position.getLast());
          return (a.at(position) - mean) / Math.sqrt(variance + eps) * gamma.at(column)
              + beta.at(column);
        });
  }

  private static Value mean(Value a, List<Integer> axes, boolean keepDims) {
    List<Integer> shape = new ArrayList<>();
    for (int axis = 0; axis < a.shape.size(); axis++) {
      if (!axes.contains(axis)) {
        shape.add(a.shape.get(axis));
      } else if (keepDims) {
        shape.add(1);
      }
    }
    Map<List<Integer>, List<Double>> groups = new HashMap<>();
    for (List<Integer> position : positions(a.shape)) {
      List<Integer> group = new ArrayList<>();
      for (int axis = 0; axis < position.size(); axis++) {
        if (!axes.contains(axis)) {
          group.add(position.get(axis));
        } else if (keepDims) {
          group.add(0);
        }
      }
      groups.computeIfAbsent(List.copyOf(group), g -> new ArrayList<>()).add(a.at(position));
    }
    return make(
        shape,
        position ->
            Objects.requireNonNull(groups.get(position)).stream()
                .mapToDouble(Double::doubleValue)
                .average()
                .orElseThrow());
  }

  private static Value given(List<Integer> shape, float[] flat) {
    List<List<Integer>> positions = positions(shape);
    Map<List<Integer>, Double> elements = new HashMap<>();
    for (int i = 0; i < flat.length; i++) {
      elements.put(positions.get(i), (double) flat[i]);
    }
    return new Value(shape, elements);
  }

  private static Value product(Value a, Value b) {
    int rank = a.shape.size();
    int inner = a.shape.getLast();
    List<Integer> shape = new ArrayList<>(a.shape.subList(0, rank - 1));
    shape.add(b.shape.getLast());
    return make(
        shape,
        position -> {
          List<Integer> batch = b.shape.size() == 2 ? List.of() : position.subList(0, rank - 2);
          double dot = 0;
          for (int k = 0; k < inner; k++) {
            List<Integer> left = new ArrayList<>(position.subList(0, rank - 1));
            left.add(k);
            List<Integer> right = new ArrayList<>(batch);
            right.addAll(List.of(k, position.getLast()));
            dot += a.at(left) * b.at(right);
          }
          return dot;
        });
  }

  private static Value combined(Value a, Value b, DoubleBinaryOperator function) {
    int rank = Math.max(a.shape.size(), b.shape.size());
    List<Integer> shape = new ArrayList<>();
    for (int axis = 0; axis < rank; axis++) {
      shape.add(Math.max(dim(a, axis, rank), dim(b, axis, rank)));
    }
    return make(
        shape,
        position -> function.applyAsDouble(a.at(project(position, a)), b.at(project(position, b))));
  }

  private static int dim(Value value, int axis, int rank) {
    int own = axis - (rank - value.shape.size());
    return own < 0 ? 1 : value.shape.get(own);
  }

  private static List<Integer> project(List<Integer> position, Value value) {
    List<Integer> own = new ArrayList<>();
    int skipped = position.size() - value.shape.size();
    for (int axis = 0; axis < value.shape.size(); axis++) {
      own.add(value.shape.get(axis) == 1 ? 0 : position.get(axis + skipped));
    }
    return own;
  }

  /** All positions of a shape in row-major order. */
  private static List<List<Integer>> positions(List<Integer> shape) {
    List<List<Integer>> positions = List.of(List.of());
    for (int dim : shape) {
      List<List<Integer>> longer = new ArrayList<>();
      for (List<Integer> position : positions) {
        for (int i = 0; i < dim; i++) {
          List<Integer> next = new ArrayList<>(position);
          next.add(i);
          longer.add(List.copyOf(next));
        }
      }
      positions = longer;
    }
    return positions;
  }
}
