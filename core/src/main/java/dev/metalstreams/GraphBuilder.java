package dev.metalstreams;

import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

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
   * The matrix product a·b: {@code [..., M, K]} times {@code [..., K, N]} gives {@code [..., M,
   * N]}. Leading extents are equal, or b has rank 2 and is used for each.
   */
  public Node matmul(Node a, Node b) {
    return multiply("matmul", a, b, false);
  }

  /** The matrix product a·bᵀ: like {@link #matmul} with b given as {@code [..., N, K]}. */
  public Node matmulTransposed(Node a, Node b) {
    return multiply("matmulTransposed", a, b, true);
  }

  private Node multiply(String operation, Node a, Node b, boolean transposeB) {
    check(operation, a, b);
    Shape left = a.extents();
    Shape right = b.extents();
    boolean fits =
        left.rank() >= 2
            && right.rank() >= 2
            && left.extent(-1) == right.extent(transposeB ? -1 : -2)
            && (right.rank() == 2 || left.sameLeading(right, 2));
    if (!fits) {
      throw mismatch(operation, a, b);
    }
    long[] result = left.toArray();
    result[result.length - 1] = right.extent(transposeB ? -2 : -1);
    return add(
        operation, a.type(), Shape.of(result), new NodeSpec.MatMul(a.id(), b.id(), transposeB));
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

  /** The sum, with NumPy's broadcasting: extents are equal, or 1, or missing at the front. */
  public Node add(Node a, Node b) {
    check("add", a, b);
    Shape left = a.extents();
    Shape right = b.extents();
    int rank = Math.max(left.rank(), right.rank());
    long[] result = new long[rank];
    for (int i = 1; i <= rank; i++) {
      long l = i <= left.rank() ? left.extent(-i) : 1;
      long r = i <= right.rank() ? right.extent(-i) : 1;
      if (l != r && l != 1 && r != 1) {
        throw mismatch("add", a, b);
      }
      result[rank - i] = Math.max(l, r);
    }
    return add("add", a.type(), Shape.of(result), new NodeSpec.Add(a.id(), b.id()));
  }

  /** max(a, 0), element by element; NaN stays NaN. */
  public Node relu(Node a) {
    check("relu", a, a);
    return add("relu", a.type(), a.extents(), new NodeSpec.Relu(a.id()));
  }

  /** Makes a node an output. An input is not one, and a node is one only once. */
  public void output(String name, Node node) {
    Objects.requireNonNull(name, "name");
    checkNotBuilt();
    check("output", node, node);
    if (inputs.contains(node)) {
      throw new IllegalArgumentException("the input " + node + " cannot be an output");
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

  private void check(String operation, Node a, Node b) {
    Objects.requireNonNull(a, operation);
    Objects.requireNonNull(b, operation);
    if (a.owner() != this || b.owner() != this) {
      throw new IllegalArgumentException(operation + ": a node belongs to another graph");
    }
    if (a.type() != b.type()) {
      throw new IllegalArgumentException(
          operation + ": " + a + " is " + a.type() + ", " + b + " is " + b.type());
    }
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
