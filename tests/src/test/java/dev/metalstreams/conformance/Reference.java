package dev.metalstreams.conformance;

import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

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

    int matmul(int a, int b) {
      return add(new NodeSpec.MatMul(a, b, false));
    }

    int matmulTransposed(int a, int b) {
      return add(new NodeSpec.MatMul(a, b, true));
    }

    int sum(int a, int b) {
      return add(new NodeSpec.Add(a, b));
    }

    int relu(int a) {
      return add(new NodeSpec.Relu(a));
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

  /** The only output of a graph. */
  static float[] evaluate(GraphSpec graph, float[]... inputs) {
    List<Value> values = new ArrayList<>();
    int input = 0;
    for (NodeSpec node : graph.nodes()) {
      if (node instanceof NodeSpec.Input in) {
        values.add(given(in.shape().stream().map(Math::toIntExact).toList(), inputs[input++]));
      } else if (node instanceof NodeSpec.MatMul matmul) {
        values.add(product(values.get(matmul.a()), values.get(matmul.b()), matmul.transposeB()));
      } else if (node instanceof NodeSpec.Add add) {
        values.add(sum(values.get(add.a()), values.get(add.b())));
      } else {
        Value a = values.get(((NodeSpec.Relu) node).a());
        Map<List<Integer>, Double> elements = new HashMap<>();
        a.elements.forEach(
            (position, x) -> elements.put(position, x.isNaN() ? Double.NaN : Math.max(x, 0)));
        values.add(new Value(a.shape, elements));
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

  private static Value given(List<Integer> shape, float[] flat) {
    List<List<Integer>> positions = positions(shape);
    Map<List<Integer>, Double> elements = new HashMap<>();
    for (int i = 0; i < flat.length; i++) {
      elements.put(positions.get(i), (double) flat[i]);
    }
    return new Value(shape, elements);
  }

  private static Value product(Value a, Value b, boolean transposeB) {
    int rank = a.shape.size();
    List<Integer> batch = a.shape.subList(0, rank - 2);
    int inner = a.shape.get(rank - 1);
    int columns = b.shape.get(b.shape.size() - (transposeB ? 2 : 1));
    List<Integer> shape = new ArrayList<>(a.shape.subList(0, rank - 1));
    shape.add(columns);
    Map<List<Integer>, Double> elements = new HashMap<>();
    for (List<Integer> position : positions(shape)) {
      List<Integer> batchPosition =
          b.shape.size() == 2 ? List.of() : position.subList(0, batch.size());
      double dot = 0;
      for (int k = 0; k < inner; k++) {
        List<Integer> left = new ArrayList<>(position.subList(0, rank - 1));
        left.add(k);
        List<Integer> right = new ArrayList<>(batchPosition);
        int column = position.get(rank - 1);
        right.addAll(transposeB ? List.of(column, k) : List.of(k, column));
        dot += a.at(left) * b.at(right);
      }
      elements.put(position, dot);
    }
    return new Value(shape, elements);
  }

  private static Value sum(Value a, Value b) {
    int rank = Math.max(a.shape.size(), b.shape.size());
    List<Integer> shape = new ArrayList<>();
    for (int axis = 0; axis < rank; axis++) {
      shape.add(Math.max(dim(a, axis, rank), dim(b, axis, rank)));
    }
    Map<List<Integer>, Double> elements = new HashMap<>();
    for (List<Integer> position : positions(shape)) {
      elements.put(position, a.at(project(position, a)) + b.at(project(position, b)));
    }
    return new Value(shape, elements);
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
