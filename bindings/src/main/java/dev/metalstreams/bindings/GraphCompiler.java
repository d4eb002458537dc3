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
        NativeCalls.check(mst_h.mst_graph_destroy(graph));
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
      MemorySegment dims = dims(input.shape());
      return mst_h.mst_graph_input(graph, input.type().code(), dims, input.shape().size(), outNode);
    }
    if (node instanceof NodeSpec.MatMul product) {
      int flags =
          product.transposeB() ? mst_h.MST_MATMUL_TRANSPOSE_B() : mst_h.MST_MATMUL_DEFAULT();
      return mst_h.mst_graph_matmul(
          graph, id(ids, product.a()), id(ids, product.b()), flags, outNode);
    }
    if (node instanceof NodeSpec.Add sum) {
      return mst_h.mst_graph_add(graph, id(ids, sum.a()), id(ids, sum.b()), outNode);
    }
    if (node instanceof NodeSpec.Relu relu) {
      return mst_h.mst_graph_relu(graph, id(ids, relu.a()), outNode);
    }
    throw new AssertionError("the driver knows no " + node);
  }

  private MemorySegment dims(List<Long> shape) {
    if (shape.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment dims = arena.allocate(mst_h.C_LONG, shape.size());
    for (int i = 0; i < shape.size(); i++) {
      dims.setAtIndex(mst_h.C_LONG, i, shape.get(i));
    }
    return dims;
  }
}
