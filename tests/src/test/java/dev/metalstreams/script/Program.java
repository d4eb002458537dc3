package dev.metalstreams.script;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** A compiled graph: node by node, in the plainest Java. Immutable. */
final class Program {
  private final GraphSpec graph;
  private final List<long[]> shapes;
  private final List<Integer> inputs;

  private Program(GraphSpec graph, List<long[]> shapes, List<Integer> inputs) {
    this.graph = graph;
    this.shapes = shapes;
    this.inputs = inputs;
  }

  /** Checks the graph as the ABI's graph functions do. */
  static Program compile(GraphSpec graph) {
    List<long[]> shapes = new ArrayList<>();
    List<Integer> inputs = new ArrayList<>();
    for (NodeSpec node : graph.nodes()) {
      int index = shapes.size();
      long[] shape;
      if (node instanceof NodeSpec.Input input) {
        inputs.add(index);
        shape = input.shape().stream().mapToLong(Long::longValue).toArray();
      } else if (node instanceof NodeSpec.MatMul matmul) {
        shape =
            Shapes.matmul(
                operand(shapes, matmul.a()), operand(shapes, matmul.b()), matmul.transposeB());
      } else if (node instanceof NodeSpec.Add add) {
        shape = Shapes.broadcast(operand(shapes, add.a()), operand(shapes, add.b()));
      } else {
        shape = operand(shapes, ((NodeSpec.Relu) node).a());
      }
      Shapes.elements(shape, ElementType.F32.bytes());
      shapes.add(shape);
    }
    if (graph.outputs().isEmpty()) {
      throw new DriverException(Status.COMPILE, "the graph has no output");
    }
    Set<Integer> seen = new HashSet<>();
    for (int output : graph.outputs()) {
      operand(shapes, output);
      if (graph.nodes().get(output) instanceof NodeSpec.Input || !seen.add(output)) {
        throw new DriverException(
            Status.INVALID_ARGUMENT, "node " + output + " is an input or an output already");
      }
    }
    return new Program(graph, shapes, List.copyOf(inputs));
  }

  private static long[] operand(List<long[]> shapes, int index) {
    if (index < 0 || index >= shapes.size()) {
      throw new DriverException(Status.INVALID_ARGUMENT, "there is no node " + index);
    }
    return shapes.get(index);
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
    return Shapes.elements(shapes.get(node), 1) * ElementType.F32.bytes();
  }

  /** Reads the inputs, computes every node, writes the outputs. */
  void run(List<ByteBuffer> arguments) {
    List<float[]> values = new ArrayList<>();
    for (int i = 0; i < graph.nodes().size(); i++) {
      NodeSpec node = graph.nodes().get(i);
      float[] value = new float[(int) Shapes.elements(shapes.get(i), 1)];
      if (node instanceof NodeSpec.Input) {
        floats(arguments.get(inputs.indexOf(i))).get(value);
      } else if (node instanceof NodeSpec.MatMul matmul) {
        multiply(matmul, values, value);
      } else if (node instanceof NodeSpec.Add add) {
        sum(add, i, values, value);
      } else {
        float[] a = values.get(((NodeSpec.Relu) node).a());
        for (int k = 0; k < value.length; k++) {
          value[k] = Math.max(a[k], 0f);
        }
      }
      values.add(value);
    }
    for (int i = 0; i < graph.outputs().size(); i++) {
      floats(arguments.get(inputs.size() + i)).put(values.get(graph.outputs().get(i)));
    }
  }

  private static FloatBuffer floats(ByteBuffer memory) {
    return memory.asFloatBuffer();
  }

  private void multiply(NodeSpec.MatMul node, List<float[]> values, float[] result) {
    long[] aShape = shapes.get(node.a());
    long[] bShape = shapes.get(node.b());
    float[] a = values.get(node.a());
    float[] b = values.get(node.b());
    int rows = (int) aShape[aShape.length - 2];
    int inner = (int) aShape[aShape.length - 1];
    int columns = (int) bShape[bShape.length - (node.transposeB() ? 2 : 1)];
    int batches = a.length / (rows * inner);
    int bStride = bShape.length == 2 ? 0 : inner * columns;
    for (int batch = 0; batch < batches; batch++) {
      for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
          double dot = 0;
          for (int k = 0; k < inner; k++) {
            int bIndex = node.transposeB() ? column * inner + k : k * columns + column;
            dot += (double) a[(batch * rows + row) * inner + k] * b[batch * bStride + bIndex];
          }
          result[(batch * rows + row) * columns + column] = (float) dot;
        }
      }
    }
  }

  private void sum(NodeSpec.Add node, int index, List<float[]> values, float[] result) {
    float[] a = values.get(node.a());
    float[] b = values.get(node.b());
    long[] shape = shapes.get(index);
    int[] aStrides = strides(shapes.get(node.a()), shape.length);
    int[] bStrides = strides(shapes.get(node.b()), shape.length);
    for (int k = 0; k < result.length; k++) {
      int rest = k;
      int aIndex = 0;
      int bIndex = 0;
      for (int axis = shape.length - 1; axis >= 0; axis--) {
        int position = (int) (rest % shape[axis]);
        rest = (int) (rest / shape[axis]);
        aIndex += position * aStrides[axis];
        bIndex += position * bStrides[axis];
      }
      result[k] = a[aIndex] + b[bIndex];
    }
  }

  /** Strides of a shape that is aligned right to {@code rank} axes; 0 where it is broadcast. */
  private static int[] strides(long[] shape, int rank) {
    int[] strides = new int[rank];
    int stride = 1;
    for (int axis = shape.length - 1; axis >= 0; axis--) {
      strides[axis + rank - shape.length] = shape[axis] == 1 ? 0 : stride;
      stride *= (int) shape[axis];
    }
    return strides;
  }
}
