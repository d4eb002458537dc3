package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Builds a native graph from its description, node by node, and compiles it. One per compilation.
 */
final class GraphCompiler {
  private final Arena arena;
  private final MemorySegment graph;
  private final MemorySegment outNode;

  private GraphCompiler(Arena arena, MemorySegment graph) {
    this.arena = arena;
    this.graph = graph;
    this.outNode = arena.allocate(mst_h.C_INT);
  }

  /** The handle of a new executable. */
  static MemorySegment compile(MemorySegment device, GraphSpec spec) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_POINTER);
      NativeCalls.check(mst_h.mst_graph_create(device, out));
      MemorySegment graph = out.get(mst_h.C_POINTER, 0);
      try {
        new GraphCompiler(arena, graph).build(spec);
        NativeCalls.check(mst_h.mst_graph_compile(graph, out));
        return out.get(mst_h.C_POINTER, 0);
      } finally {
        NativeCalls.end(() -> mst_h.mst_graph_destroy(graph));
      }
    }
  }

  private void build(GraphSpec spec) {
    // The library numbers nodes by itself; a description names them by their index.
    List<Integer> ids = new ArrayList<>(spec.nodes().size());
    for (NodeSpec node : spec.nodes()) {
      NativeCalls.check(add(node, ids));
      ids.add(outNode.get(mst_h.C_INT, 0));
    }
    for (int output : spec.outputs()) {
      NativeCalls.check(mst_h.mst_graph_output(graph, id(ids, output)));
    }
  }

  private static int id(List<Integer> ids, int node) {
    if (node < 0 || node >= ids.size()) {
      throw new DriverException(
          Status.INVALID_ARGUMENT, "node " + node + " is none of the " + ids.size() + " so far");
    }
    return ids.get(node);
  }

  private int add(NodeSpec node, List<Integer> ids) {
    if (node instanceof NodeSpec.Input input) {
      return mst_h.mst_graph_input(
          graph, input.type().code(), longs(input.shape()), input.shape().size(), outNode);
    }
    if (node instanceof NodeSpec.Constant constant) {
      return addConstant(constant);
    }
    if (node instanceof NodeSpec.Cast cast) {
      return mst_h.mst_graph_cast(graph, id(ids, cast.a()), cast.type().code(), outNode);
    }
    if (node instanceof NodeSpec.MatMul product) {
      int flags =
          (product.transposeA() ? mst_h.MST_MATMUL_TRANSPOSE_A() : 0)
              | (product.transposeB() ? mst_h.MST_MATMUL_TRANSPOSE_B() : 0);
      return mst_h.mst_graph_matmul(
          graph, id(ids, product.a()), id(ids, product.b()), flags, outNode);
    }
    if (node instanceof NodeSpec.Binary binary) {
      return addBinary(binary.operation(), id(ids, binary.a()), id(ids, binary.b()));
    }
    if (node instanceof NodeSpec.Unary unary) {
      return addUnary(unary.operation(), id(ids, unary.a()));
    }
    if (node instanceof NodeSpec.Softmax softmax) {
      return mst_h.mst_graph_softmax(graph, id(ids, softmax.a()), outNode);
    }
    if (node instanceof NodeSpec.LayerNorm norm) {
      return mst_h.mst_graph_layer_norm(
          graph,
          id(ids, norm.a()),
          id(ids, norm.gamma()),
          id(ids, norm.beta()),
          norm.eps(),
          outNode);
    }
    if (node instanceof NodeSpec.Mean mean) {
      int flags = mean.keepDims() ? mst_h.MST_MEAN_KEEP_DIMS() : mst_h.MST_MEAN_DEFAULT();
      return mst_h.mst_graph_mean(
          graph, id(ids, mean.a()), ints(mean.axes()), mean.axes().size(), flags, outNode);
    }
    return rearrange(node, ids);
  }

  private int rearrange(NodeSpec node, List<Integer> ids) {
    if (node instanceof NodeSpec.Reshape reshape) {
      return mst_h.mst_graph_reshape(
          graph, id(ids, reshape.a()), longs(reshape.shape()), reshape.shape().size(), outNode);
    }
    if (node instanceof NodeSpec.Transpose transpose) {
      List<Integer> permutation = transpose.permutation();
      return mst_h.mst_graph_transpose(
          graph, id(ids, transpose.a()), ints(permutation), permutation.size(), outNode);
    }
    if (node instanceof NodeSpec.Concat concat) {
      List<Integer> nodes = concat.nodes().stream().map(operand -> id(ids, operand)).toList();
      return mst_h.mst_graph_concat(graph, ints(nodes), nodes.size(), concat.axis(), outNode);
    }
    if (node instanceof NodeSpec.Slice slice) {
      if (slice.starts().size() != slice.ends().size()) {
        throw new DriverException(
            Status.INVALID_ARGUMENT, "a slice has as many starts as ends: " + slice);
      }
      return mst_h.mst_graph_slice(
          graph,
          id(ids, slice.a()),
          longs(slice.starts()),
          longs(slice.ends()),
          slice.starts().size(),
          outNode);
    }
    throw new AssertionError("the driver knows no " + node);
  }

  private int addConstant(NodeSpec.Constant constant) {
    // Of its own arena: the library copies it, and weights may be large.
    try (Arena data = Arena.ofConfined()) {
      MemorySegment elements =
          data.allocate(Math.max(1, constant.data().byteSize()), Float.BYTES)
              .copyFrom(MemorySegment.ofBuffer(constant.data().bytes()));
      return mst_h.mst_graph_constant(
          graph,
          constant.type().code(),
          longs(constant.shape()),
          constant.shape().size(),
          elements,
          constant.data().byteSize(),
          outNode);
    }
  }

  private int addBinary(NodeSpec.BinaryOperation operation, int a, int b) {
    return switch (operation) {
      case ADD -> mst_h.mst_graph_add(graph, a, b, outNode);
      case SUBTRACT -> mst_h.mst_graph_subtract(graph, a, b, outNode);
      case MULTIPLY -> mst_h.mst_graph_multiply(graph, a, b, outNode);
      case DIVIDE -> mst_h.mst_graph_divide(graph, a, b, outNode);
    };
  }

  private int addUnary(NodeSpec.UnaryOperation operation, int a) {
    return switch (operation) {
      case RELU -> mst_h.mst_graph_relu(graph, a, outNode);
      case SIGMOID -> mst_h.mst_graph_sigmoid(graph, a, outNode);
      case TANH -> mst_h.mst_graph_tanh(graph, a, outNode);
      case GELU -> mst_h.mst_graph_gelu(graph, a, mst_h.MST_GELU_ERF(), outNode);
      case GELU_TANH -> mst_h.mst_graph_gelu(graph, a, mst_h.MST_GELU_TANH(), outNode);
    };
  }

  private MemorySegment longs(List<Long> values) {
    if (values.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment array = arena.allocate(mst_h.C_LONG, values.size());
    for (int i = 0; i < values.size(); i++) {
      array.setAtIndex(mst_h.C_LONG, i, values.get(i));
    }
    return array;
  }

  private MemorySegment ints(List<Integer> values) {
    if (values.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment array = arena.allocate(mst_h.C_INT, values.size());
    for (int i = 0; i < values.size(); i++) {
      array.setAtIndex(mst_h.C_INT, i, values.get(i));
    }
    return array;
  }
}
