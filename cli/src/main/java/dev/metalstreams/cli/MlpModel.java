package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A multi-layer perceptron from a file: {@code fc1} to {@code fcN}, ReLU between them. */
final class MlpModel implements Model {
  private static final Pattern PARAMETER = Pattern.compile("fc([1-9][0-9]{0,8})\\.(weight|bias)");

  /** The weight is [outputs, inputs], the bias [outputs]. */
  private static final class Layer {
    final int inputs;
    final int outputs;
    final float[] weight;
    final float[] bias;

    Layer(int inputs, int outputs, float[] weight, float[] bias) {
      this.inputs = inputs;
      this.outputs = outputs;
      this.weight = weight;
      this.bias = bias;
    }
  }

  private final List<Layer> layers;

  private MlpModel(List<Layer> layers) {
    this.layers = layers;
  }

  /**
   * Reads it.
   *
   * @throws UsageException if the file holds something else, or layers that do not chain
   */
  static MlpModel read(Safetensors file) {
    List<Layer> layers = new ArrayList<>();
    while (file.contains(weightOf(layers.size() + 1))) {
      layers.add(
          readLayer(
              file,
              layers.size() + 1,
              layers.isEmpty() ? Optional.empty() : Optional.of(layers.getLast())));
    }
    if (layers.isEmpty()) {
      throw StoredTensors.fault(file, "there is no fc1.weight, so this is no mlp");
    }
    for (String name : file.names()) {
      Matcher matcher = PARAMETER.matcher(name);
      if (matcher.matches() && Integer.parseInt(matcher.group(1)) > layers.size()) {
        throw StoredTensors.fault(
            file, "there is " + name + ", but no " + weightOf(layers.size() + 1));
      }
    }
    return new MlpModel(layers);
  }

  private static Layer readLayer(Safetensors file, int number, Optional<Layer> before) {
    StoredTensor weight = StoredTensors.floats(file, weightOf(number), 2);
    StoredTensor bias = StoredTensors.floats(file, "fc" + number + ".bias", 1);
    int outputs = Math.toIntExact(weight.shape()[0]);
    int inputs = Math.toIntExact(weight.shape()[1]);
    if (bias.shape()[0] != outputs) {
      throw StoredTensors.fault(
          file,
          bias.name()
              + " has "
              + bias.shape()[0]
              + " values, but "
              + weight.name()
              + " has "
              + outputs
              + " rows");
    }
    if (before.isPresent() && before.get().outputs != inputs) {
      throw StoredTensors.fault(
          file,
          weight.name()
              + " takes "
              + inputs
              + " values, but the layer before gives "
              + before.get().outputs);
    }
    return new Layer(inputs, outputs, weight.floats(), bias.floats());
  }

  private static String weightOf(int layer) {
    return "fc" + layer + ".weight";
  }

  @Override
  public int inputs() {
    return layers.getFirst().inputs;
  }

  @Override
  public int outputs() {
    return layers.getLast().outputs;
  }

  @Override
  public Graph graph(int batch) {
    return Graph.build(
        g -> {
          Node values = g.input("x", DType.F32, batch, inputs());
          for (int i = 0; i < layers.size(); i++) {
            Layer layer = layers.get(i);
            Node weight = g.constant(layer.weight, layer.outputs, layer.inputs);
            Node bias = g.constant(layer.bias, layer.outputs);
            values = g.linear(i == 0 ? values : g.relu(values), weight, bias);
          }
          g.output("y", values);
        });
  }
}
