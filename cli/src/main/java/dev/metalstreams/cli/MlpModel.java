package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A multi-layer perceptron from a file: {@code fc1} to {@code fcN}, ReLU between them. */
final class MlpModel {
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

  /** Values that a sample has. */
  int inputs() {
    return layers.getFirst().inputs;
  }

  /** Values that a result has. */
  int outputs() {
    return layers.getLast().outputs;
  }

  /**
   * The model for a batch: inputs are {@code x}, then each layer's weight and bias; the output is
   * {@code y}.
   */
  Graph graph(int batch) {
    return Graph.build(
        g -> {
          Node values = g.input("x", DType.F32, batch, inputs());
          for (int i = 0; i < layers.size(); i++) {
            Layer layer = layers.get(i);
            Node weight = g.input(weightOf(i + 1), DType.F32, layer.outputs, layer.inputs);
            Node bias = g.input("fc" + (i + 1) + ".bias", DType.F32, layer.outputs);
            values = g.linear(i == 0 ? values : g.relu(values), weight, bias);
          }
          g.output("y", values);
        });
  }

  /**
   * Brings the weights to the device, in the order of the graph's inputs behind {@code x}. The
   * caller closes them.
   */
  List<Tensor> upload(Device device) {
    List<Tensor> weights = new ArrayList<>();
    try {
      for (Layer layer : layers) {
        weights.add(device.tensor(layer.weight, layer.outputs, layer.inputs));
        weights.add(device.tensor(layer.bias, layer.outputs));
      }
    } catch (RuntimeException | Error e) {
      weights.forEach(Tensor::close);
      throw e;
    }
    return List.copyOf(weights);
  }
}
