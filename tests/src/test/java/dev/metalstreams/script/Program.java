package dev.metalstreams.script;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.DoubleBinaryOperator;
import java.util.function.DoubleUnaryOperator;

/** A compiled graph: node by node, in the plainest Java. Immutable. */
final class Program {
  private final GraphSpec graph;
  private final List<long[]> shapes;
  private final List<ElementType> types;
  private final List<Integer> inputs;

  private Program(
      GraphSpec graph, List<long[]> shapes, List<ElementType> types, List<Integer> inputs) {
    this.graph = graph;
    this.shapes = shapes;
    this.types = types;
    this.inputs = inputs;
  }

  /** Checks the graph as the ABI's graph functions do. */
  static Program compile(GraphSpec graph) {
    List<long[]> shapes = new ArrayList<>();
    List<ElementType> types = new ArrayList<>();
    List<Integer> inputs = new ArrayList<>();
    for (NodeSpec node : graph.nodes()) {
      if (node instanceof NodeSpec.Input) {
        inputs.add(shapes.size());
      }
      List<Integer> operands = operands(node);
      for (int operand : operands) {
        operand(shapes, operand);
        if (types.get(operand) != types.get(operands.getFirst())) {
          throw new DriverException(Status.INVALID_ARGUMENT, node + " mixes element types");
        }
      }
      long[] shape = Shapes.of(node, shapes);
      Shapes.elements(shape, ElementType.F32.bytes());
      shapes.add(shape);
      types.add(type(node, operands, types));
    }
    if (graph.outputs().isEmpty()) {
      throw new DriverException(Status.COMPILE, "the graph has no output");
    }
    Set<Integer> seen = new HashSet<>();
    for (int output : graph.outputs()) {
      operand(shapes, output);
      NodeSpec node = graph.nodes().get(output);
      if (node instanceof NodeSpec.Input
          || node instanceof NodeSpec.Constant
          || !seen.add(output)) {
        throw new DriverException(
            Status.INVALID_ARGUMENT,
            "node " + output + " is an input, a constant or an output already");
      }
    }
    return new Program(graph, shapes, types, List.copyOf(inputs));
  }

  /** The layer norm that needs no graph. */
  static Program layerNorm(long rows, long columns, float eps) {
    NodeSpec row = new NodeSpec.Input(ElementType.F32, List.of(columns));
    return compile(
        new GraphSpec(
            List.of(
                new NodeSpec.Input(ElementType.F32, List.of(rows, columns)),
                row,
                row,
                new NodeSpec.LayerNorm(0, 1, 2, eps)),
            List.of(3)));
  }

  private static List<Integer> operands(NodeSpec node) {
    if (node instanceof NodeSpec.Cast cast) {
      return List.of(cast.a());
    } else if (node instanceof NodeSpec.MatMul matmul) {
      return List.of(matmul.a(), matmul.b());
    } else if (node instanceof NodeSpec.Binary binary) {
      return List.of(binary.a(), binary.b());
    } else if (node instanceof NodeSpec.Unary unary) {
      return List.of(unary.a());
    } else if (node instanceof NodeSpec.Softmax softmax) {
      return List.of(softmax.a());
    } else if (node instanceof NodeSpec.LayerNorm norm) {
      return List.of(norm.a(), norm.gamma(), norm.beta());
    } else if (node instanceof NodeSpec.Mean mean) {
      return List.of(mean.a());
    } else if (node instanceof NodeSpec.Reshape reshape) {
      return List.of(reshape.a());
    } else if (node instanceof NodeSpec.Transpose transpose) {
      return List.of(transpose.a());
    } else if (node instanceof NodeSpec.Concat concat) {
      return concat.nodes();
    } else if (node instanceof NodeSpec.Slice slice) {
      return List.of(slice.a());
    }
    return List.of();
  }

  private static ElementType type(NodeSpec node, List<Integer> operands, List<ElementType> types) {
    if (node instanceof NodeSpec.Input input) {
      return input.type();
    } else if (node instanceof NodeSpec.Constant constant) {
      return constant.type();
    } else if (node instanceof NodeSpec.Cast cast) {
      return cast.type();
    }
    return types.get(operands.getFirst());
  }

  private static long[] operand(List<long[]> shapes, int index) {
    if (index < 0 || index >= shapes.size()) {
      throw new DriverException(Status.INVALID_ARGUMENT, "there is no node " + index);
    }
    return shapes.get(index);
  }

  /** How many matrix products it computes. */
  int products() {
    return (int) graph.nodes().stream().filter(NodeSpec.MatMul.class::isInstance).count();
  }

  /** Whether it is a product of its inputs and nothing else. */
  boolean isOneProduct() {
    return products() == 1 && graph.nodes().size() == inputs.size() + 1;
  }

  int inputCount() {
    return inputs.size();
  }

  int argumentCount() {
    return inputs.size() + graph.outputs().size();
  }

  /** Bytes of the tensor in this argument slot. */
  long argumentBytes(int slot) {
    int node = slot < inputs.size() ? inputs.get(slot) : graph.outputs().get(slot - inputs.size());
    return Shapes.elements(shapes.get(node), 1) * types.get(node).bytes();
  }

  /** Reads the inputs, computes every node, writes the outputs. */
  void run(List<ByteBuffer> arguments) {
    List<float[]> values = new ArrayList<>();
    for (int i = 0; i < graph.nodes().size(); i++) {
      values.add(compute(i, values, arguments));
    }
    for (int i = 0; i < graph.outputs().size(); i++) {
      int node = graph.outputs().get(i);
      write(types.get(node), values.get(node), arguments.get(inputs.size() + i));
    }
  }

  private float[] compute(int index, List<float[]> values, List<ByteBuffer> arguments) {
    NodeSpec node = graph.nodes().get(index);
    float[] result = new float[(int) Shapes.elements(shapes.get(index), 1)];
    if (node instanceof NodeSpec.Input input) {
      read(input.type(), arguments.get(inputs.indexOf(index)), result);
    } else if (node instanceof NodeSpec.Constant constant) {
      read(constant.type(), constant.data().bytes(), result);
    } else if (node instanceof NodeSpec.Cast cast) {
      each(values.get(cast.a()), result, x -> cast.type() == ElementType.F16 ? half((float) x) : x);
    } else if (node instanceof NodeSpec.MatMul matmul) {
      multiply(matmul, values, result);
    } else if (node instanceof NodeSpec.Binary binary) {
      combine(binary, index, values, result);
    } else if (node instanceof NodeSpec.Unary unary) {
      each(values.get(unary.a()), result, function(unary.operation()));
    } else if (node instanceof NodeSpec.Softmax softmax) {
      softmax(values.get(softmax.a()), result, lastExtent(index));
    } else if (node instanceof NodeSpec.LayerNorm norm) {
      normalise(norm, values, result, lastExtent(index));
    } else if (node instanceof NodeSpec.Mean mean) {
      mean(mean, values, result);
    } else {
      rearrange(node, index, values, result);
    }
    return result;
  }

  private int lastExtent(int index) {
    long[] shape = shapes.get(index);
    return (int) shape[shape.length - 1];
  }

  private static void read(ElementType type, ByteBuffer memory, float[] into) {
    for (int i = 0; i < into.length; i++) {
      into[i] =
          type == ElementType.F32
              ? memory.getFloat(i * 4)
              : Float.float16ToFloat(memory.getShort(i * 2));
    }
  }

  private static void write(ElementType type, float[] values, ByteBuffer memory) {
    for (int i = 0; i < values.length; i++) {
      if (type == ElementType.F32) {
        memory.putFloat(i * 4, values[i]);
      } else {
        memory.putShort(i * 2, Float.floatToFloat16(values[i]));
      }
    }
  }

  private static float half(float value) {
    return Float.float16ToFloat(Float.floatToFloat16(value));
  }

  private static void each(float[] a, float[] result, DoubleUnaryOperator function) {
    for (int i = 0; i < result.length; i++) {
      result[i] = (float) function.applyAsDouble(a[i]);
    }
  }

  private static DoubleUnaryOperator function(NodeSpec.UnaryOperation operation) {
    return switch (operation) {
      case RELU -> x -> Math.max(x, 0);
      case SIGMOID -> x -> 1 / (1 + Math.exp(-x));
      case TANH -> Math::tanh;
      case GELU -> x -> x == Double.NEGATIVE_INFINITY ? 0 : x * (1 + Erf.erf(x / Math.sqrt(2))) / 2;
      case GELU_TANH ->
          x ->
              x == Double.NEGATIVE_INFINITY
                  ? 0
                  : x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))) / 2;
    };
  }

  private static DoubleBinaryOperator function(NodeSpec.BinaryOperation operation) {
    return switch (operation) {
      case ADD -> (a, b) -> a + b;
      case SUBTRACT -> (a, b) -> a - b;
      case MULTIPLY -> (a, b) -> a * b;
      case DIVIDE -> (a, b) -> a / b;
    };
  }

  private void multiply(NodeSpec.MatMul node, List<float[]> values, float[] result) {
    long[] aShape = shapes.get(node.a());
    long[] bShape = shapes.get(node.b());
    float[] a = values.get(node.a());
    float[] b = values.get(node.b());
    int rows = (int) aShape[aShape.length - (node.transposeA() ? 1 : 2)];
    int inner = (int) aShape[aShape.length - (node.transposeA() ? 2 : 1)];
    int columns = (int) bShape[bShape.length - (node.transposeB() ? 2 : 1)];
    int batches = a.length / (rows * inner);
    int bStride = bShape.length == 2 ? 0 : inner * columns;
    for (int batch = 0; batch < batches; batch++) {
      for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
          double dot = 0;
          for (int k = 0; k < inner; k++) {
            int aIndex = node.transposeA() ? k * rows + row : row * inner + k;
            int bIndex = node.transposeB() ? column * inner + k : k * columns + column;
            dot += (double) a[batch * rows * inner + aIndex] * b[batch * bStride + bIndex];
          }
          result[(batch * rows + row) * columns + column] = (float) dot;
        }
      }
    }
  }

  private void combine(NodeSpec.Binary node, int index, List<float[]> values, float[] result) {
    float[] a = values.get(node.a());
    float[] b = values.get(node.b());
    long[] shape = shapes.get(index);
    int[] aStrides = broadcastStrides(shapes.get(node.a()), shape.length);
    int[] bStrides = broadcastStrides(shapes.get(node.b()), shape.length);
    DoubleBinaryOperator function = function(node.operation());
    for (int k = 0; k < result.length; k++) {
      int[] position = position(k, shape);
      result[k] =
          (float) function.applyAsDouble(a[dot(position, aStrides)], b[dot(position, bStrides)]);
    }
  }

  private static void softmax(float[] a, float[] result, int columns) {
    for (int first = 0; first < a.length; first += columns) {
      double greatest = Double.NEGATIVE_INFINITY;
      for (int i = first; i < first + columns; i++) {
        greatest = Math.max(greatest, a[i]);
      }
      double sum = 0;
      for (int i = first; i < first + columns; i++) {
        sum += Math.exp(a[i] - greatest);
      }
      for (int i = first; i < first + columns; i++) {
        result[i] = (float) (Math.exp(a[i] - greatest) / sum);
      }
    }
  }

  private static void normalise(
      NodeSpec.LayerNorm node, List<float[]> values, float[] result, int columns) {
    float[] a = values.get(node.a());
    float[] gamma = values.get(node.gamma());
    float[] beta = values.get(node.beta());
    for (int first = 0; first < a.length; first += columns) {
      double mean = 0;
      for (int i = first; i < first + columns; i++) {
        mean += a[i] / (double) columns;
      }
      double variance = 0;
      for (int i = first; i < first + columns; i++) {
        variance += (a[i] - mean) * (a[i] - mean) / columns;
      }
      for (int i = 0; i < columns; i++) {
        result[first + i] =
            (float) ((a[first + i] - mean) / Math.sqrt(variance + node.eps()) * gamma[i] + beta[i]);
      }
    }
  }

  private void mean(NodeSpec.Mean node, List<float[]> values, float[] result) {
    float[] a = values.get(node.a());
    long[] shape = shapes.get(node.a());
    long[] kept = shape.clone();
    node.axes().forEach(axis -> kept[axis] = 1);
    int[] strides = broadcastStrides(kept, kept.length);
    double[] sums = new double[result.length];
    for (int k = 0; k < a.length; k++) {
      sums[dot(position(k, shape), strides)] += a[k];
    }
    for (int k = 0; k < result.length; k++) {
      result[k] = (float) (sums[k] * result.length / a.length);
    }
  }

  private void rearrange(NodeSpec node, int index, List<float[]> values, float[] result) {
    long[] shape = shapes.get(index);
    if (node instanceof NodeSpec.Reshape reshape) {
      System.arraycopy(values.get(reshape.a()), 0, result, 0, result.length);
    } else if (node instanceof NodeSpec.Transpose transpose) {
      int[] strides = strides(shapes.get(transpose.a()));
      for (int k = 0; k < result.length; k++) {
        int[] position = position(k, shape);
        int from = 0;
        for (int axis = 0; axis < shape.length; axis++) {
          from += position[axis] * strides[transpose.permutation().get(axis)];
        }
        result[k] = values.get(transpose.a())[from];
      }
    } else if (node instanceof NodeSpec.Slice slice) {
      int[] strides = strides(shapes.get(slice.a()));
      for (int k = 0; k < result.length; k++) {
        int[] position = position(k, shape);
        for (int axis = 0; axis < shape.length; axis++) {
          position[axis] += Math.toIntExact(slice.starts().get(axis));
        }
        result[k] = values.get(slice.a())[dot(position, strides)];
      }
    } else if (node instanceof NodeSpec.Concat concat) {
      for (int k = 0; k < result.length; k++) {
        int[] position = position(k, shape);
        int operand = 0;
        while (position[concat.axis()] >= shapes.get(concat.nodes().get(operand))[concat.axis()]) {
          position[concat.axis()] -= (int) shapes.get(concat.nodes().get(operand))[concat.axis()];
          operand++;
        }
        int from = concat.nodes().get(operand);
        result[k] = values.get(from)[dot(position, strides(shapes.get(from)))];
      }
    } else {
      throw new AssertionError("no program for " + node);
    }
  }

  // ---- positions

  private static int[] position(int flat, long[] shape) {
    int[] position = new int[shape.length];
    for (int axis = shape.length - 1; axis >= 0; axis--) {
      position[axis] = (int) (flat % shape[axis]);
      flat = (int) (flat / shape[axis]);
    }
    return position;
  }

  private static int dot(int[] position, int[] strides) {
    int sum = 0;
    for (int axis = 0; axis < position.length; axis++) {
      sum += position[axis] * strides[axis];
    }
    return sum;
  }

  private static int[] strides(long[] shape) {
    int[] strides = new int[shape.length];
    int stride = 1;
    for (int axis = shape.length - 1; axis >= 0; axis--) {
      strides[axis] = stride;
      stride *= (int) shape[axis];
    }
    return strides;
  }

  /** Strides of a shape that is aligned right to {@code rank} axes; 0 where it is broadcast. */
  private static int[] broadcastStrides(long[] shape, int rank) {
    int[] own = strides(shape);
    int[] strides = new int[rank];
    Arrays.setAll(
        strides,
        axis -> {
          int index = axis - (rank - shape.length);
          return index < 0 || shape[index] == 1 ? 0 : own[index];
        });
    return strides;
  }
}
