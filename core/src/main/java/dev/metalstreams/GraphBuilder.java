package dev.metalstreams;

import dev.metalstreams.driver.ConstantData;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;

/**
 * Collects the nodes of a {@link Graph}; made by {@link Graph#build}, and of no use after it. Not
 * thread-safe.
 *
 * <p>Tensors are dense and row-major. Every method that adds an operation throws {@link
 * IllegalArgumentException} if the operands do not fit, or belong to another graph, and {@link
 * IllegalStateException} after the graph was built.
 */
public final class GraphBuilder {
  private final List<NodeSpec> specs = new ArrayList<>();
  private final List<Node> inputs = new ArrayList<>();
  private final List<Node> outputs = new ArrayList<>();
  private final List<String> outputNames = new ArrayList<>();
  private boolean built;

  GraphBuilder() {}

  /** Declares an input. Arguments are given in the order of these calls. */
  public Node input(String name, DType type, long... shape) {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(type, "type");
    Shape extents = Shape.of(shape);
    if (inputs.stream().anyMatch(input -> input.name().equals(name))) {
      throw new IllegalArgumentException("there is an input named '" + name + "' already");
    }
    Node node = add(name, type, extents, new NodeSpec.Input(type.element(), extents.toList()));
    inputs.add(node);
    return node;
  }

  /**
   * A constant: elements that belong to the graph, copied.
   *
   * @throws IllegalArgumentException if there are not as many values as the shape says
   */
  public Node constant(float[] values, long... shape) {
    return constant(DType.F32, values, shape);
  }

  /** A constant of a type; the values are rounded to it. */
  public Node constant(DType type, float[] values, long... shape) {
    Objects.requireNonNull(type, "type");
    Objects.requireNonNull(values, "values");
    Shape extents = Shape.of(shape);
    if (values.length != extents.elements()) {
      throw new IllegalArgumentException(
          values.length + " values for the shape " + extents + ", which has " + extents.elements());
    }
    ByteBuffer bytes =
        ByteBuffer.allocate(Math.multiplyExact(values.length, type.bytes()))
            .order(ByteOrder.nativeOrder());
    type.write(values, bytes);
    return add(
        "constant",
        type,
        extents,
        new NodeSpec.Constant(type.element(), extents.toList(), ConstantData.copyOf(bytes)));
  }

  /** The same elements as another type; to F16 they are rounded. */
  public Node cast(Node a, DType type) {
    check("cast", a);
    Objects.requireNonNull(type, "type");
    return add("cast", type, a.extents(), new NodeSpec.Cast(a.id(), type.element()));
  }

  // ---- matrix products

  /**
   * The matrix product a·b: {@code [..., M, K]} times {@code [..., K, N]} gives {@code [..., M,
   * N]}. Leading extents are equal, or b has rank 2 and is used for each.
   */
  public Node matmul(Node a, Node b) {
    return multiply("matmul", a, false, b, false);
  }

  /** The matrix product a·bᵀ: like {@link #matmul} with b given as {@code [..., N, K]}. */
  public Node matmulTransposed(Node a, Node b) {
    return multiply("matmulTransposed", a, false, b, true);
  }

  /**
   * The matrix product of operands that are given transposed or not: a as {@code [..., K, M]}, b as
   * {@code [..., N, K]} if so.
   */
  public Node matmul(Node a, boolean transposeA, Node b, boolean transposeB) {
    return multiply("matmul", a, transposeA, b, transposeB);
  }

  private Node multiply(String operation, Node a, boolean transposeA, Node b, boolean transposeB) {
    check(operation, a, b);
    Shape left = a.extents();
    Shape right = b.extents();
    boolean fits =
        left.rank() >= 2
            && right.rank() >= 2
            && left.extent(transposeA ? -2 : -1) == right.extent(transposeB ? -1 : -2)
            && (right.rank() == 2 || left.sameLeading(right, 2));
    if (!fits) {
      throw mismatch(operation, a, b);
    }
    long[] result = left.toArray();
    result[result.length - 2] = left.extent(transposeA ? -1 : -2);
    result[result.length - 1] = right.extent(transposeB ? -2 : -1);
    return add(
        operation,
        a.type(),
        Shape.of(result),
        new NodeSpec.MatMul(a.id(), b.id(), transposeA, transposeB));
  }

  /**
   * x·weightᵀ: x {@code [..., in]}, weight {@code [out, in]} as PyTorch stores it, result {@code
   * [..., out]}.
   */
  public Node linear(Node x, Node weight) {
    check("linear", x, weight);
    if (weight.extents().rank() != 2
        || x.extents().rank() < 2
        || x.extents().extent(-1) != weight.extents().extent(1)) {
      throw mismatch("linear", x, weight);
    }
    return matmulTransposed(x, weight);
  }

  /** x·weightᵀ + bias: like {@link #linear(Node, Node)}, with a bias {@code [out]}. */
  public Node linear(Node x, Node weight, Node bias) {
    Node product = linear(x, weight);
    check("linear", weight, bias);
    if (bias.extents().rank() != 1 || bias.extents().extent(0) != weight.extents().extent(0)) {
      throw mismatch("linear", weight, bias);
    }
    return add(product, bias);
  }

  // ---- element by element

  /** a + b with NumPy's broadcasting: extents are equal, or 1, or missing at the front. */
  public Node add(Node a, Node b) {
    return binary("add", NodeSpec.BinaryOperation.ADD, a, b);
  }

  /** a - b, broadcast as in {@link #add}. */
  public Node subtract(Node a, Node b) {
    return binary("subtract", NodeSpec.BinaryOperation.SUBTRACT, a, b);
  }

  /** a · b, broadcast as in {@link #add}. */
  public Node multiply(Node a, Node b) {
    return binary("multiply", NodeSpec.BinaryOperation.MULTIPLY, a, b);
  }

  /** Each element times a number. */
  public Node multiply(Node a, float factor) {
    check("multiply", a);
    return multiply(a, constant(a.type(), new float[] {factor}));
  }

  /** a / b, broadcast as in {@link #add}. */
  public Node divide(Node a, Node b) {
    return binary("divide", NodeSpec.BinaryOperation.DIVIDE, a, b);
  }

  private Node binary(String name, NodeSpec.BinaryOperation operation, Node a, Node b) {
    check(name, a, b);
    Shape left = a.extents();
    Shape right = b.extents();
    int rank = Math.max(left.rank(), right.rank());
    long[] result = new long[rank];
    for (int i = 1; i <= rank; i++) {
      long l = i <= left.rank() ? left.extent(-i) : 1;
      long r = i <= right.rank() ? right.extent(-i) : 1;
      if (l != r && l != 1 && r != 1) {
        throw mismatch(name, a, b);
      }
      result[rank - i] = Math.max(l, r);
    }
    return add(name, a.type(), Shape.of(result), new NodeSpec.Binary(operation, a.id(), b.id()));
  }

  /** max(a, 0), element by element; NaN stays NaN. */
  public Node relu(Node a) {
    return unary("relu", NodeSpec.UnaryOperation.RELU, a);
  }

  /** 1 / (1 + exp(-a)), element by element. */
  public Node sigmoid(Node a) {
    return unary("sigmoid", NodeSpec.UnaryOperation.SIGMOID, a);
  }

  /** The hyperbolic tangent, element by element. */
  public Node tanh(Node a) {
    return unary("tanh", NodeSpec.UnaryOperation.TANH, a);
  }

  /** a · (1 + erf(a / √2)) / 2, element by element. */
  public Node gelu(Node a) {
    return unary("gelu", NodeSpec.UnaryOperation.GELU, a);
  }

  /** a · (1 + tanh(√(2/π) · (a + 0.044715·a³))) / 2, an approximation of {@link #gelu}. */
  public Node geluTanh(Node a) {
    return unary("geluTanh", NodeSpec.UnaryOperation.GELU_TANH, a);
  }

  private Node unary(String name, NodeSpec.UnaryOperation operation, Node a) {
    check(name, a);
    return add(name, a.type(), a.extents(), new NodeSpec.Unary(operation, a.id()));
  }

  // ---- rows and axes

  /** The softmax along the last axis. Rows of any finite elements give no NaN. */
  public Node softmax(Node a) {
    check("softmax", a);
    if (a.extents().rank() == 0) {
      throw unfit("softmax", a, "there is no last axis");
    }
    return add("softmax", a.type(), a.extents(), new NodeSpec.Softmax(a.id()));
  }

  /**
   * (x - mean) / √(variance + eps) · gamma + beta along the last axis, with the biased variance.
   *
   * @param gamma {@code [N]}, N the last extent of x
   * @param beta {@code [N]}
   * @param eps finite, not negative
   */
  public Node layerNorm(Node x, Node gamma, Node beta, float eps) {
    check("layerNorm", x, gamma, beta);
    if (!(eps >= 0) || Float.isInfinite(eps)) {
      throw unfit("layerNorm", x, "eps is finite and not negative, not " + eps);
    }
    for (Node parameter : List.of(gamma, beta)) {
      if (x.extents().rank() == 0
          || parameter.extents().rank() != 1
          || parameter.extents().extent(0) != x.extents().extent(-1)) {
        throw mismatch("layerNorm", x, parameter);
      }
    }
    return add(
        "layerNorm",
        x.type(),
        x.extents(),
        new NodeSpec.LayerNorm(x.id(), gamma.id(), beta.id(), eps));
  }

  /**
   * The mean over axes.
   *
   * @param keepDims whether these axes stay, with the extent 1
   * @param axes at least one, each once; negative ones count from the last
   */
  public Node mean(Node a, boolean keepDims, int... axes) {
    Objects.requireNonNull(axes, "axes");
    check("mean", a);
    if (axes.length == 0) {
      throw unfit("mean", a, "there are no axes");
    }
    int rank = a.extents().rank();
    boolean[] reduced = new boolean[rank];
    for (int axis : axes) {
      int index = axisOf("mean", a, axis);
      if (reduced[index]) {
        throw unfit("mean", a, "axis " + axis + " is named twice");
      }
      reduced[index] = true;
    }
    List<Integer> indices = new ArrayList<>();
    List<Long> extents = new ArrayList<>();
    for (int i = 0; i < rank; i++) {
      if (reduced[i]) {
        indices.add(i);
      }
      if (!reduced[i] || keepDims) {
        extents.add(reduced[i] ? 1 : a.extents().extent(i));
      }
    }
    return add(
        "mean",
        a.type(),
        Shape.of(extents.stream().mapToLong(Long::longValue).toArray()),
        new NodeSpec.Mean(a.id(), indices, keepDims));
  }

  // ---- rearranging

  /** The same elements in the same row-major order, with another shape. */
  public Node reshape(Node a, long... shape) {
    check("reshape", a);
    Shape extents = Shape.of(shape);
    if (extents.elements() != a.extents().elements()) {
      throw unfit("reshape", a, "the shape " + extents + " has another number of elements");
    }
    return add("reshape", a.type(), extents, new NodeSpec.Reshape(a.id(), extents.toList()));
  }

  /** Rearranges axes: axis i of the result is axis {@code permutation[i]} of a. */
  public Node transpose(Node a, int... permutation) {
    Objects.requireNonNull(permutation, "permutation");
    check("transpose", a);
    Shape shape = a.extents();
    int[] sorted = permutation.clone();
    Arrays.sort(sorted);
    if (!Arrays.equals(sorted, IntStream.range(0, shape.rank()).toArray())) {
      throw unfit(
          "transpose",
          a,
          "the permutation " + Arrays.toString(permutation) + " does not name each axis once");
    }
    long[] result = Arrays.stream(permutation).mapToLong(shape::extent).toArray();
    List<Integer> axes = Arrays.stream(permutation).boxed().toList();
    return add("transpose", a.type(), Shape.of(result), new NodeSpec.Transpose(a.id(), axes));
  }

  /**
   * Tensors one after the other along an axis; their other extents are equal.
   *
   * @param axis negative ones count from the last
   */
  public Node concat(int axis, Node... nodes) {
    Objects.requireNonNull(nodes, "nodes");
    if (nodes.length == 0) {
      throw new IllegalArgumentException("concat: there are no nodes");
    }
    check("concat", nodes);
    int index = axisOf("concat", nodes[0], axis);
    long[] result = nodes[0].shape();
    for (int i = 1; i < nodes.length; i++) {
      long[] next = nodes[i].shape();
      long along = next.length == result.length ? next[index] : 0;
      if (along > 0) {
        next[index] = nodes[0].extents().extent(index);
      }
      if (!Arrays.equals(next, nodes[0].shape())) {
        throw mismatch("concat", nodes[0], nodes[i]);
      }
      if (result[index] > Long.MAX_VALUE - along) {
        throw unfit("concat", nodes[0], "together they are too large");
      }
      result[index] += along;
    }
    return add(
        "concat",
        nodes[0].type(),
        Shape.of(result),
        new NodeSpec.Concat(Arrays.stream(nodes).map(Node::id).toList(), index));
  }

  /**
   * The elements whose position on an axis is from {@code start} to before {@code end}.
   *
   * @param axis negative ones count from the last
   */
  public Node slice(Node a, int axis, long start, long end) {
    check("slice", a);
    int index = axisOf("slice", a, axis);
    long[] starts = new long[a.extents().rank()];
    long[] ends = a.shape();
    starts[index] = start;
    ends[index] = end;
    return slice(a, starts, ends);
  }

  /** The elements whose position on each axis i is from starts[i] to before ends[i]. */
  public Node slice(Node a, long[] starts, long[] ends) {
    Objects.requireNonNull(starts, "starts");
    Objects.requireNonNull(ends, "ends");
    check("slice", a);
    Shape shape = a.extents();
    boolean fits = shape.rank() > 0 && starts.length == shape.rank() && ends.length == shape.rank();
    long[] result = new long[shape.rank()];
    for (int i = 0; fits && i < result.length; i++) {
      fits = 0 <= starts[i] && starts[i] < ends[i] && ends[i] <= shape.extent(i);
      result[i] = ends[i] - starts[i];
    }
    if (!fits) {
      throw unfit(
          "slice",
          a,
          "the range from "
              + Arrays.toString(starts)
              + " to "
              + Arrays.toString(ends)
              + " is empty or not inside");
    }
    return add(
        "slice",
        a.type(),
        Shape.of(result),
        new NodeSpec.Slice(
            a.id(), Arrays.stream(starts).boxed().toList(), Arrays.stream(ends).boxed().toList()));
  }

  // ---- attention

  /**
   * softmax(q·kᵀ / √D)·v: q {@code [..., L, D]}, k {@code [..., S, D]}, v {@code [..., S, E]} of
   * one rank and with equal leading extents, result {@code [..., L, E]}.
   *
   * @param causal whether row i sees only the first i + 1 rows of k and v
   */
  public Node scaledDotProductAttention(Node q, Node k, Node v, boolean causal) {
    String name = "scaledDotProductAttention";
    check(name, q, k, v);
    Shape shape = q.extents();
    if (shape.rank() < 2
        || !shape.sameLeading(k.extents(), 2)
        || shape.extent(-1) != k.extents().extent(-1)) {
      throw mismatch(name, q, k);
    }
    if (!k.extents().sameLeading(v.extents(), 1)) {
      throw mismatch(name, k, v);
    }
    Node scores =
        multiply(matmulTransposed(q, k), (float) (1 / Math.sqrt((double) shape.extent(-1))));
    if (causal) {
      scores = add(scores, causalMask(q.type(), shape.extent(-2), k.extents().extent(-2)));
    }
    return matmul(softmax(scores), v);
  }

  /** 0 where a row may look, -infinity where not. */
  private Node causalMask(DType type, long rows, long columns) {
    int width = Math.toIntExact(columns);
    float[] mask = new float[Math.toIntExact(Math.multiplyExact(rows, columns))];
    for (int i = 0; i < mask.length; i++) {
      mask[i] = i % width <= i / width ? 0 : Float.NEGATIVE_INFINITY;
    }
    return constant(type, mask, rows, columns);
  }

  /**
   * Multi-head self-attention with PyTorch's packed projection: x {@code [..., L, E]}, inWeight
   * {@code [3E, E]} and inBias {@code [3E]} give q, k and v, each split into heads of E / heads;
   * the heads' results, side by side, go through outWeight {@code [E, E]} and outBias {@code [E]}.
   *
   * @param heads divides E
   */
  public Node multiHeadAttention(
      Node x, int heads, Node inWeight, Node inBias, Node outWeight, Node outBias) {
    String name = "multiHeadAttention";
    check(name, x, inWeight, inBias, outWeight, outBias);
    Shape shape = x.extents();
    int rank = shape.rank();
    if (rank < 2 || rank > Shape.MAX_RANK - 1) {
      throw unfit(name, x, "its rank is not 2 to " + (Shape.MAX_RANK - 1));
    }
    long width = shape.extent(-1);
    if (heads < 1 || width % heads != 0) {
      throw unfit(name, x, "the last extent is not divided by " + heads + " heads");
    }
    if (!inWeight.extents().equals(Shape.of(Math.multiplyExact(3, width), width))) {
      throw mismatch(name, x, inWeight);
    }
    if (!outWeight.extents().equals(Shape.of(width, width))) {
      throw mismatch(name, x, outWeight);
    }
    Node packed = linear(x, inWeight, inBias);
    Node q = head(packed, heads, 0, width);
    Node k = head(packed, heads, width, 2 * width);
    Node v = head(packed, heads, 2 * width, 3 * width);
    Node attended = scaledDotProductAttention(q, k, v, false);
    return linear(reshape(swapped(attended), shape.toArray()), outWeight, outBias);
  }

  /** A part [..., L, E] of a projection as [..., heads, L, E / heads]. */
  private Node head(Node packed, int heads, long start, long end) {
    Node part = slice(packed, -1, start, end);
    long[] shape = part.shape();
    long[] split = Arrays.copyOf(shape, shape.length + 1);
    split[shape.length - 1] = heads;
    split[shape.length] = (end - start) / heads;
    return swapped(reshape(part, split));
  }

  /** With the second and the third axis from the end exchanged. */
  private Node swapped(Node a) {
    int rank = a.extents().rank();
    int[] permutation = IntStream.range(0, rank).toArray();
    permutation[rank - 2] = rank - 3;
    permutation[rank - 3] = rank - 2;
    return transpose(a, permutation);
  }

  /** Makes a node an output. Inputs and constants are none, and a node is one only once. */
  public void output(String name, Node node) {
    Objects.requireNonNull(name, "name");
    checkNotBuilt();
    check("output", node);
    NodeSpec spec = specs.get(node.id());
    if (spec instanceof NodeSpec.Input || spec instanceof NodeSpec.Constant) {
      throw new IllegalArgumentException(
          "the "
              + (spec instanceof NodeSpec.Input ? "input " : "")
              + node
              + " cannot be an output");
    }
    if (outputs.contains(node)) {
      throw new IllegalArgumentException(node + " is an output already");
    }
    if (outputNames.contains(name)) {
      throw new IllegalArgumentException("there is an output named '" + name + "' already");
    }
    outputs.add(node);
    outputNames.add(name);
  }

  Graph build() {
    if (outputs.isEmpty()) {
      throw new IllegalStateException("the graph has no output");
    }
    built = true;
    return new Graph(
        new GraphSpec(specs, outputs.stream().map(Node::id).toList()),
        inputs,
        outputs,
        outputNames);
  }

  private Node add(String name, DType type, Shape shape, NodeSpec spec) {
    checkNotBuilt();
    int id = specs.size();
    specs.add(spec);
    String unique = spec instanceof NodeSpec.Input ? name : name + "#" + id;
    return new Node(this, id, unique, type, shape);
  }

  private void checkNotBuilt() {
    if (built) {
      throw new IllegalStateException("the graph is built");
    }
  }

  /** Checks what all operations ask of their operands. */
  private void check(String operation, Node... operands) {
    for (Node operand : operands) {
      Objects.requireNonNull(operand, operation);
      if (operand.owner() != this) {
        throw new IllegalArgumentException(operation + ": a node belongs to another graph");
      }
    }
    Node first = operands[0];
    for (Node operand : operands) {
      if (operand.type() != first.type()) {
        throw new IllegalArgumentException(
            operation
                + "#"
                + specs.size()
                + ": "
                + first
                + " is "
                + first.type()
                + ", "
                + operand
                + " is "
                + operand.type()
                + ": cast one of them");
      }
    }
  }

  private int axisOf(String operation, Node a, int axis) {
    int rank = a.extents().rank();
    if (axis < -rank || axis >= rank) {
      throw unfit(operation, a, "there is no axis " + axis);
    }
    return axis < 0 ? rank + axis : axis;
  }

  private IllegalArgumentException unfit(String operation, Node a, String complaint) {
    return new IllegalArgumentException(
        operation + "#" + specs.size() + " of " + a + ": " + complaint);
  }

  private IllegalArgumentException mismatch(String operation, Node a, Node b) {
    return new IllegalArgumentException(
        operation
            + "#"
            + specs.size()
            + ": shapes do not fit: "
            + a.name()
            + " "
            + a.extents()
            + " and "
            + b.name()
            + " "
            + b.extents());
  }
}
