package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Graph;
import dev.metalstreams.Node;
import dev.metalstreams.safetensors.Safetensors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A transformer encoder as a classifier, from a file: {@code embed} and {@code pos} make tokens of
 * a sample's values, {@code layers.0} to {@code layers.N} follow (4 heads, GELU by the error
 * function), then the mean over the tokens and {@code head}.
 */
final class TransformerModel implements Model {
  private static final int HEADS = 4;
  private static final Pattern LAYER = Pattern.compile("layers\\.(0|[1-9][0-9]{0,8})\\..+");

  private final Parameters parameters;
  private final int tokens;
  private final int pixels;
  private final int layers;
  private final int classes;

  private TransformerModel(Parameters parameters, int tokens, int pixels, int layers, int classes) {
    this.parameters = parameters;
    this.tokens = tokens;
    this.pixels = pixels;
    this.layers = layers;
    this.classes = classes;
  }

  /**
   * Reads it.
   *
   * @throws UsageException if the file holds something else, or parameters that do not fit
   */
  static TransformerModel read(Safetensors file) {
    Parameters parameters = new Parameters(file);
    if (!file.contains("embed.weight")) {
      throw StoredTensors.fault(file, "there is no embed.weight, so this is no transformer");
    }
    long[] embed = StoredTensors.floats(file, "embed.weight", 2).shape();
    long width = embed[0];
    long pixels = embed[1];
    long tokens = StoredTensors.floats(file, "pos", 2).shape()[0];
    long classes = StoredTensors.floats(file, "head.weight", 2).shape()[0];
    if (width % HEADS != 0) {
      throw StoredTensors.fault(
          file, "embed.weight has " + width + " rows, which " + HEADS + " heads do not divide");
    }
    parameters.read("embed.weight", width, pixels);
    parameters.read("embed.bias", width);
    parameters.read("pos", tokens, width);
    int layers = 0;
    while (file.contains(layer(layers) + "linear1.weight")) {
      readLayer(file, parameters, layer(layers++), width);
    }
    for (String name : file.names()) {
      Matcher matcher = LAYER.matcher(name);
      if (matcher.matches() && Integer.parseInt(matcher.group(1)) >= layers) {
        throw StoredTensors.fault(
            file, "there is " + name + ", but no " + layer(layers) + "linear1.weight");
      }
    }
    parameters.read("head.weight", classes, width);
    parameters.read("head.bias", classes);
    return new TransformerModel(
        parameters,
        Math.toIntExact(tokens),
        Math.toIntExact(pixels),
        layers,
        Math.toIntExact(classes));
  }

  private static String layer(int number) {
    return "layers." + number + ".";
  }

  private static void readLayer(Safetensors file, Parameters parameters, String layer, long width) {
    long hidden = StoredTensors.floats(file, layer + "linear1.weight", 2).shape()[0];
    parameters.read(layer + "self_attn.in_proj_weight", 3 * width, width);
    parameters.read(layer + "self_attn.in_proj_bias", 3 * width);
    parameters.read(layer + "self_attn.out_proj.weight", width, width);
    parameters.read(layer + "self_attn.out_proj.bias", width);
    parameters.read(layer + "linear1.weight", hidden, width);
    parameters.read(layer + "linear1.bias", hidden);
    parameters.read(layer + "linear2.weight", width, hidden);
    parameters.read(layer + "linear2.bias", width);
    for (String norm : new String[] {"norm1", "norm2"}) {
      parameters.read(layer + norm + ".weight", width);
      parameters.read(layer + norm + ".bias", width);
    }
  }

  @Override
  public int inputs() {
    return Math.multiplyExact(tokens, pixels);
  }

  @Override
  public int outputs() {
    return classes;
  }

  @Override
  public Graph graph(int batch) {
    return Graph.build(
        g -> {
          Node pixelRows =
              g.reshape(g.input("x", DType.F32, batch, inputs()), batch, tokens, pixels);
          Node embedded =
              g.linear(
                  pixelRows,
                  parameters.constant(g, "embed.weight"),
                  parameters.constant(g, "embed.bias"));
          Node x = g.add(embedded, parameters.constant(g, "pos"));
          for (int i = 0; i < layers; i++) {
            String layer = layer(i);
            x =
                EncoderLayer.add(
                    g, x, HEADS, g::gelu, name -> parameters.constant(g, layer + name));
          }
          g.output(
              "y",
              g.linear(
                  g.mean(x, false, 1),
                  parameters.constant(g, "head.weight"),
                  parameters.constant(g, "head.bias")));
        });
  }
}
