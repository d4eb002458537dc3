package dev.metalstreams.cli;

import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import java.util.function.Function;
import java.util.function.UnaryOperator;

/**
 * A layer of a transformer's encoder as PyTorch's {@code TransformerEncoderLayer} has it, with the
 * normalisations behind the additions. Its parameters have PyTorch's names.
 */
final class EncoderLayer {
  private static final float EPS = 1e-5f;

  private EncoderLayer() {}

  /**
   * Adds a layer to a graph.
   *
   * @param x [..., tokens, width]
   * @param activation of the feed-forward part
   * @param parameter the node of a name, such as {@code linear1.weight}
   */
  static Node add(
      GraphBuilder g,
      Node x,
      int heads,
      UnaryOperator<Node> activation,
      Function<String, Node> parameter) {
    Node attended =
        g.multiHeadAttention(
            x,
            heads,
            parameter.apply("self_attn.in_proj_weight"),
            parameter.apply("self_attn.in_proj_bias"),
            parameter.apply("self_attn.out_proj.weight"),
            parameter.apply("self_attn.out_proj.bias"));
    Node first = norm(g, g.add(x, attended), "norm1", parameter);
    Node hidden = activation.apply(linear(g, first, "linear1", parameter));
    return norm(g, g.add(first, linear(g, hidden, "linear2", parameter)), "norm2", parameter);
  }

  private static Node linear(
      GraphBuilder g, Node x, String name, Function<String, Node> parameter) {
    return g.linear(x, parameter.apply(name + ".weight"), parameter.apply(name + ".bias"));
  }

  private static Node norm(GraphBuilder g, Node x, String name, Function<String, Node> parameter) {
    return g.layerNorm(x, parameter.apply(name + ".weight"), parameter.apply(name + ".bias"), EPS);
  }
}
