package dev.metalstreams.cli;

import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What a case of a golden file computes. The name of a case begins with its operation; what follows
 * is a shape or a remark, and for attention the number of heads and the activation.
 */
final class GoldenOperation {
  private static final float EPS = 1e-5f;

  /** Adds an operation to a graph. */
  private interface Description {
    Node add(GraphBuilder g, Map<String, Node> operands, Matcher name);
  }

  private record Kind(Pattern pattern, List<String> operands, Description description) {}

  /** The first that matches counts: longer names before those that they begin with. */
  private static final List<Kind> KINDS =
      List.of(
          kind(
              "matmul_nt_.*",
              List.of("a", "b"),
              (g, of, name) -> g.matmulTransposed(get(of, "a"), get(of, "b"))),
          kind(
              "matmul_.*|bmm_.*",
              List.of("a", "b"),
              (g, of, name) -> g.matmul(get(of, "a"), get(of, "b"))),
          kind(
              "linear_nobias_.*",
              List.of("x", "w"),
              (g, of, name) -> g.linear(get(of, "x"), get(of, "w"))),
          kind(
              "linear_.*",
              List.of("x", "w", "b"),
              (g, of, name) -> g.linear(get(of, "x"), get(of, "w"), get(of, "b"))),
          kind("relu_.*", List.of("x"), (g, of, name) -> g.relu(get(of, "x"))),
          kind("gelu_tanh_.*", List.of("x"), (g, of, name) -> g.geluTanh(get(of, "x"))),
          kind("gelu_.*", List.of("x"), (g, of, name) -> g.gelu(get(of, "x"))),
          kind("sigmoid_.*", List.of("x"), (g, of, name) -> g.sigmoid(get(of, "x"))),
          kind("tanh_.*", List.of("x"), (g, of, name) -> g.tanh(get(of, "x"))),
          kind("softmax_.*", List.of("x"), (g, of, name) -> g.softmax(get(of, "x"))),
          kind(
              "layer_norm_.*",
              List.of("x", "gamma", "beta"),
              (g, of, name) -> g.layerNorm(get(of, "x"), get(of, "gamma"), get(of, "beta"), EPS)),
          kind(
              "sdpa_causal_.*",
              List.of("q", "k", "v"),
              (g, of, name) ->
                  g.scaledDotProductAttention(get(of, "q"), get(of, "k"), get(of, "v"), true)),
          kind(
              "sdpa_.*",
              List.of("q", "k", "v"),
              (g, of, name) ->
                  g.scaledDotProductAttention(get(of, "q"), get(of, "k"), get(of, "v"), false)),
          kind(
              "mha_.*_h(?<heads>[1-9][0-9]{0,8})",
              List.of("x", "in_w", "in_b", "out_w", "out_b"),
              (g, of, name) ->
                  g.multiHeadAttention(
                      get(of, "x"),
                      Integer.parseInt(name.group("heads")),
                      get(of, "in_w"),
                      get(of, "in_b"),
                      get(of, "out_w"),
                      get(of, "out_b"))),
          kind(
              "encoder_layer_.*_h(?<heads>[1-9][0-9]{0,8})_ff(?<width>[1-9][0-9]{0,8})(?<activation>_relu|_gelu)?",
              List.of(
                  "x",
                  "self_attn.in_proj_weight",
                  "self_attn.in_proj_bias",
                  "self_attn.out_proj.weight",
                  "self_attn.out_proj.bias",
                  "linear1.weight",
                  "linear1.bias",
                  "linear2.weight",
                  "linear2.bias",
                  "norm1.weight",
                  "norm1.bias",
                  "norm2.weight",
                  "norm2.bias"),
              GoldenOperation::encoderLayer));

  private final Kind kind;
  private final Matcher name;

  private GoldenOperation(Kind kind, Matcher name) {
    this.kind = kind;
    this.name = name;
  }

  private static Kind kind(String pattern, List<String> operands, Description description) {
    return new Kind(Pattern.compile(pattern), operands, description);
  }

  private static Node get(Map<String, Node> operands, String name) {
    return Objects.requireNonNull(operands.get(name), name);
  }

  private static Node encoderLayer(GraphBuilder g, Map<String, Node> of, Matcher name) {
    Node hidden = get(of, "linear1.weight");
    if (hidden.shape()[0] != Integer.parseInt(name.group("width"))) {
      throw new IllegalArgumentException(
          "linear1.weight has "
              + hidden.shape()[0]
              + " rows, but the case is named for "
              + name.group("width"));
    }
    return EncoderLayer.add(
        g,
        get(of, "x"),
        Integer.parseInt(name.group("heads")),
        "_gelu".equals(name.group("activation")) ? g::gelu : g::relu,
        parameter -> get(of, parameter));
  }

  /** The operation of a case, if it is known. */
  static Optional<GoldenOperation> of(String name) {
    for (Kind kind : KINDS) {
      Matcher matcher = kind.pattern.matcher(name);
      if (matcher.matches()) {
        return Optional.of(new GoldenOperation(kind, matcher));
      }
    }
    return Optional.empty();
  }

  /** The names of its operands. */
  List<String> operands() {
    return kind.operands;
  }

  /**
   * Adds it to a graph.
   *
   * @throws IllegalArgumentException if the operands do not fit
   */
  Node add(GraphBuilder g, Map<String, Node> operands) {
    return kind.description.add(g, operands, name);
  }
}
