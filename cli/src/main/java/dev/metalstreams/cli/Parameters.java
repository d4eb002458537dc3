package dev.metalstreams.cli;

import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/** The weights of a model, under the names they have in its file. */
final class Parameters {
  private final Safetensors file;
  private final Map<String, StoredFloats> read = new LinkedHashMap<>();

  Parameters(Safetensors file) {
    this.file = file;
  }

  /**
   * Reads a parameter.
   *
   * @throws UsageException if it has another shape
   */
  void read(String name, long... shape) {
    StoredTensor tensor = StoredTensors.floats(file, name, shape.length);
    if (!Arrays.equals(tensor.shape(), shape)) {
      throw StoredTensors.fault(
          file,
          name
              + " has the shape "
              + Arrays.toString(tensor.shape())
              + ", not "
              + Arrays.toString(shape));
    }
    read.put(name, StoredFloats.of(tensor));
  }

  /** A parameter that was read, as a constant of a graph. */
  Node constant(GraphBuilder g, String name) {
    StoredFloats parameter = read.get(name);
    if (parameter == null) {
      throw new IllegalStateException(name + " was not read");
    }
    return g.constant(parameter.values, parameter.shape);
  }
}
