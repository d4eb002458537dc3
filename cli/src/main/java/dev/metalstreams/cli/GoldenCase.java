package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Graph;
import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import dev.metalstreams.safetensors.Safetensors;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/**
 * One operation of a golden file: the graph that computes it, its inputs, and what it must give. A
 * case is every name of the file up to the first dot; {@code case.y} is the result, the others are
 * operands.
 */
record GoldenCase(String name, Graph graph, List<StoredFloats> inputs, StoredFloats expected) {
  private static final String RESULT = "y";

  /**
   * Reads every case of a file.
   *
   * @throws UsageException if the file holds something that is no case, or a case that is unknown
   *     or whose tensors do not fit
   */
  static List<GoldenCase> read(Safetensors file) {
    Map<String, List<String>> operands = new LinkedHashMap<>();
    for (String name : new TreeSet<>(file.names())) {
      int dot = name.indexOf('.');
      if (dot <= 0) {
        throw StoredTensors.fault(file, "'" + OneLine.of(name) + "' belongs to no case");
      }
      operands
          .computeIfAbsent(name.substring(0, dot), c -> new ArrayList<>())
          .add(name.substring(dot + 1));
    }
    if (operands.isEmpty()) {
      throw StoredTensors.fault(file, "there is no case");
    }
    List<GoldenCase> cases = new ArrayList<>();
    operands.forEach((name, names) -> cases.add(read(file, name, names)));
    return cases;
  }

  private static GoldenCase read(Safetensors file, String name, List<String> names) {
    GoldenOperation operation =
        GoldenOperation.of(name)
            .orElseThrow(
                () ->
                    StoredTensors.fault(
                        file, "the operation of '" + OneLine.of(name) + "' is not known"));
    List<String> wanted = new ArrayList<>(operation.operands());
    wanted.add(RESULT);
    if (!new TreeSet<>(wanted).equals(new TreeSet<>(names))) {
      throw StoredTensors.fault(
          file, name + " has " + OneLine.of(names.toString()) + ", but takes " + wanted);
    }
    List<StoredFloats> inputs = new ArrayList<>();
    for (String operand : operation.operands()) {
      inputs.add(StoredFloats.of(StoredTensors.floats(file, name + "." + operand)));
    }
    StoredFloats result = StoredFloats.of(StoredTensors.floats(file, name + "." + RESULT));
    Graph graph;
    try {
      graph = Graph.build(g -> describe(g, operation, inputs));
    } catch (IllegalArgumentException e) {
      throw StoredTensors.fault(file, name + ": " + OneLine.of(e));
    }
    long[] shape = graph.outputs().getFirst().shape();
    if (!Arrays.equals(shape, result.shape)) {
      throw StoredTensors.fault(
          file,
          name
              + " gives "
              + Arrays.toString(shape)
              + ", but its y is "
              + Arrays.toString(result.shape));
    }
    return new GoldenCase(name, graph, inputs, result);
  }

  private static void describe(
      GraphBuilder g, GoldenOperation operation, List<StoredFloats> inputs) {
    Map<String, Node> nodes = new LinkedHashMap<>();
    for (int i = 0; i < inputs.size(); i++) {
      String name = operation.operands().get(i);
      nodes.put(name, g.input(name, DType.F32, inputs.get(i).shape));
    }
    g.output(RESULT, operation.add(g, nodes));
  }
}
