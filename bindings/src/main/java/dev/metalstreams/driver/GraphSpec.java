package dev.metalstreams.driver;

import java.util.List;

/**
 * A computation as a value: nodes in an order in which operands come first, and the nodes that are
 * outputs. Inputs and outputs are numbered by their order here. The core has checked every shape.
 *
 * @param nodes the nodes; a node is named by its index
 * @param outputs indices of the output nodes
 */
public record GraphSpec(List<NodeSpec> nodes, List<Integer> outputs) {

  /** Copies the lists. */
  public GraphSpec {
    nodes = List.copyOf(nodes);
    outputs = List.copyOf(outputs);
  }
}
