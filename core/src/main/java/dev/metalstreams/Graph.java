package dev.metalstreams;

import dev.metalstreams.driver.GraphSpec;
import java.util.List;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * A computation: inputs, operations, outputs. Immutable and independent of any device; {@link
 * Device#compile} makes it runnable.
 */
public final class Graph {
  private final GraphSpec spec;
  private final List<Node> inputs;
  private final List<Node> outputs;
  private final List<String> outputNames;

  Graph(GraphSpec spec, List<Node> inputs, List<Node> outputs, List<String> outputNames) {
    this.spec = spec;
    this.inputs = List.copyOf(inputs);
    this.outputs = List.copyOf(outputs);
    this.outputNames = List.copyOf(outputNames);
  }

  /**
   * Builds a graph. Every shape is checked as a node is added.
   *
   * @throws IllegalArgumentException if an operation does not fit its operands; the message names
   *     the operation, the node and both shapes
   * @throws IllegalStateException if no output was declared
   */
  public static Graph build(Consumer<GraphBuilder> description) {
    Objects.requireNonNull(description, "description");
    GraphBuilder builder = new GraphBuilder();
    description.accept(builder);
    return builder.build();
  }

  /**
   * The inputs, in the order in which they were declared: the order of the arguments of {@link
   * Executable#run}.
   */
  public List<Node> inputs() {
    return inputs;
  }

  /** The outputs, in the order in which they were declared. */
  public List<Node> outputs() {
    return outputs;
  }

  /** The names of the outputs, in the same order. */
  public List<String> outputNames() {
    return outputNames;
  }

  /** What drivers get. */
  GraphSpec spec() {
    return spec;
  }

  @Override
  public String toString() {
    return "graph of " + spec.nodes().size() + " nodes: " + inputs + " -> " + outputs;
  }
}
