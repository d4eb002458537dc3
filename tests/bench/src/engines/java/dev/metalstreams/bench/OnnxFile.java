package dev.metalstreams.bench;

import com.google.protobuf.CodedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/**
 * A network as an ONNX model, as PyTorch's exporter would write it: standard operations, for the
 * runtime to fuse; or with the runtime's own attention in place of the standard operations.
 *
 * <p>Field numbers are those of {@code onnx.proto}.
 */
final class OnnxFile {
  private static final int FLOAT = 1;
  private static final int INT64 = 7;
  private static final String OWN_DOMAIN = "com.microsoft";

  /** What goes into a message. */
  private interface Content {
    void write(CodedOutputStream out) throws IOException;
  }

  private final Network network;
  private final int batch;
  private final boolean ownAttention;
  private final ByteArrayOutputStream graph = new ByteArrayOutputStream();
  private final CodedOutputStream out = CodedOutputStream.newInstance(graph);
  private int names;

  private OnnxFile(Network network, int batch, boolean ownAttention) {
    this.network = network;
    this.batch = batch;
    this.ownAttention = ownAttention;
  }

  static byte[] of(Network network, int batch, boolean ownAttention) {
    try {
      return new OnnxFile(network, batch, ownAttention).write();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private byte[] write() throws IOException {
    String y = network.kind() == Network.Kind.MLP ? mlp() : encoder();
    node("Identity", "", List.of(y), "y", Map.of());
    out.writeString(2, network.kind().label());
    value(11, "x", batch, Network.INPUTS);
    value(12, "y", batch, Network.OUTPUTS);
    out.flush();
    return message(
        model -> {
          model.writeInt64(1, 9); // the version of the format that came with operator set 20
          embed(model, 8, set -> set.writeInt64(2, 20));
          embed(
              model,
              8,
              set -> {
                set.writeString(1, OWN_DOMAIN);
                set.writeInt64(2, 1);
              });
          model.writeByteArray(7, graph.toByteArray());
        });
  }

  // ---- networks

  private String mlp() throws IOException {
    String first = node("Relu", gemm("x", "fc1"));
    String second = node("Relu", gemm(first, "fc2"));
    return gemm(second, "fc3");
  }

  private String encoder() throws IOException {
    String tokens = reshape("x", batch, Network.TOKENS, Network.PIXELS);
    String x = node("Add", linear(tokens, "embed"), parameter("pos"));
    for (int i = 0; i < Network.LAYERS; i++) {
      String layer = "layers." + i + ".";
      String attended = ownAttention ? fusedAttention(x, layer) : attention(x, layer);
      String projected = linear(attended, layer + "self_attn.out_proj");
      String first = norm(node("Add", x, projected), layer + "norm1");
      String hidden = node("Gelu", linear(first, layer + "linear1"));
      x = norm(node("Add", first, linear(hidden, layer + "linear2")), layer + "norm2");
    }
    String mean =
        node("ReduceMean", "", List.of(x, longs(1)), fresh(), Map.of("keepdims", integer(0)));
    return gemm(mean, "head");
  }

  private String attention(String x, String layer) throws IOException {
    String packed = linear(x, layer + "self_attn.in_proj_weight", layer + "self_attn.in_proj_bias");
    String q = head(packed, 0, 0, 2, 1, 3);
    String k = head(packed, 1, 0, 2, 3, 1);
    String v = head(packed, 2, 0, 2, 1, 3);
    String scale = floats((float) (1 / Math.sqrt(Network.HEAD)));
    String scores = node("Mul", node("MatMul", q, k), scale);
    String weights = node("Softmax", "", List.of(scores), fresh(), Map.of("axis", integer(-1)));
    String heads = transpose(node("MatMul", weights, v), 0, 2, 1, 3);
    return reshape(heads, batch, Network.TOKENS, Network.WIDTH);
  }

  private String head(String packed, int part, long... permutation) throws IOException {
    int from = part * Network.WIDTH;
    String slice = node("Slice", packed, longs(from), longs(from + Network.WIDTH), longs(2));
    return transpose(
        reshape(slice, batch, Network.TOKENS, Network.HEADS, Network.HEAD), permutation);
  }

  private String fusedAttention(String x, String layer) throws IOException {
    String weight = tensor(network.weight(layer + "self_attn.in_proj_weight").transposed());
    return node(
        "Attention",
        OWN_DOMAIN,
        List.of(x, weight, parameter(layer + "self_attn.in_proj_bias")),
        fresh(),
        Map.of("num_heads", integer(Network.HEADS)));
  }

  // ---- operations

  private String gemm(String x, String name) throws IOException {
    return node(
        "Gemm",
        "",
        List.of(x, parameter(name + ".weight"), parameter(name + ".bias")),
        fresh(),
        Map.of("transB", integer(1)));
  }

  /** As the exporter writes a linear layer of more than two dimensions. */
  private String linear(String x, String name) throws IOException {
    return linear(x, name + ".weight", name + ".bias");
  }

  private String linear(String x, String weight, String bias) throws IOException {
    return node(
        "Add", node("MatMul", x, tensor(network.weight(weight).transposed())), parameter(bias));
  }

  private String norm(String x, String name) throws IOException {
    return node(
        "LayerNormalization",
        "",
        List.of(x, parameter(name + ".weight"), parameter(name + ".bias")),
        fresh(),
        Map.of(
            "epsilon",
            attribute -> {
              attribute.writeFloat(2, Network.EPS);
              attribute.writeEnum(20, 1);
            }));
  }

  private String reshape(String x, long... shape) throws IOException {
    return node("Reshape", x, longs(shape));
  }

  private String transpose(String x, long... permutation) throws IOException {
    return node(
        "Transpose",
        "",
        List.of(x),
        fresh(),
        Map.of(
            "perm",
            attribute -> {
              for (long axis : permutation) {
                attribute.writeInt64(8, axis);
              }
              attribute.writeEnum(20, 7);
            }));
  }

  private static Content integer(long value) {
    return attribute -> {
      attribute.writeInt64(3, value);
      attribute.writeEnum(20, 2);
    };
  }

  // ---- messages

  private String fresh() {
    return "t" + names++;
  }

  private String node(String type, String... inputs) throws IOException {
    return node(type, "", List.of(inputs), fresh(), Map.of());
  }

  private String node(
      String type,
      String domain,
      List<String> inputs,
      String output,
      Map<String, Content> attributes)
      throws IOException {
    embed(
        out,
        1,
        node -> {
          for (String input : inputs) {
            node.writeString(1, input);
          }
          node.writeString(2, output);
          node.writeString(4, type);
          for (Map.Entry<String, Content> attribute : attributes.entrySet()) {
            embed(
                node,
                5,
                message -> {
                  message.writeString(1, attribute.getKey());
                  attribute.getValue().write(message);
                });
          }
          node.writeString(7, domain);
        });
    return output;
  }

  private String parameter(String name) throws IOException {
    return tensor(network.weight(name));
  }

  private String tensor(Network.Weight weight) throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(4 * weight.values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(weight.values);
    return initializer(FLOAT, weight.shape, bytes.array());
  }

  private String floats(float value) throws IOException {
    return tensor(new Network.Weight(new long[] {1}, new float[] {value}));
  }

  private String longs(long... values) throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asLongBuffer().put(values);
    return initializer(INT64, new long[] {values.length}, bytes.array());
  }

  private String initializer(int type, long[] shape, byte[] raw) throws IOException {
    String name = "w" + names++;
    embed(
        out,
        5,
        tensor -> {
          for (long dim : shape) {
            tensor.writeInt64(1, dim);
          }
          tensor.writeInt32(2, type);
          tensor.writeByteArray(8, name.getBytes(StandardCharsets.UTF_8));
          tensor.writeByteArray(9, raw);
        });
    return name;
  }

  private void value(int field, String name, long... shape) throws IOException {
    Content dims =
        message -> {
          for (long dim : shape) {
            embed(message, 1, each -> each.writeInt64(1, dim));
          }
        };
    Content tensorType =
        message -> {
          message.writeInt32(1, FLOAT);
          embed(message, 2, dims);
        };
    embed(
        out,
        field,
        info -> {
          info.writeString(1, name);
          embed(info, 2, type -> embed(type, 1, tensorType));
        });
  }

  private static void embed(CodedOutputStream out, int field, Content content) throws IOException {
    out.writeByteArray(field, message(content));
  }

  private static byte[] message(Content content) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    CodedOutputStream out = CodedOutputStream.newInstance(bytes);
    content.write(out);
    out.flush();
    return bytes.toByteArray();
  }
}
