package dev.metalstreams.bench;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/**
 * A network as a TorchScript archive, as {@code torch.jit.save} would write it: a zip with the code
 * of a module, its attributes as a pickle, and the elements of its tensors.
 */
final class TorchFile {
  private static final String ROOT = "network/";

  private final Map<String, Network.Weight> attributes = new LinkedHashMap<>();
  private final List<String> lines = new ArrayList<>();
  private final Network network;
  private final int batch;
  private final boolean fastPath;

  private TorchFile(Network network, int batch, boolean fastPath) {
    this.network = network;
    this.batch = batch;
    this.fastPath = fastPath;
  }

  /**
   * The archive.
   *
   * @param fastPath whether an encoder layer is the one fused operation of PyTorch's fast path, or
   *     what {@code nn.TransformerEncoderLayer} does without it
   */
  static byte[] of(Network network, int batch, boolean fastPath) {
    try {
      return new TorchFile(network, batch, fastPath).write();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private byte[] write() throws IOException {
    if (network.kind() == Network.Kind.MLP) {
      mlp();
    } else {
      encoder();
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
      entry(zip, "data.pkl", pickledModule());
      entry(zip, "code/__torch__.py", code().getBytes(StandardCharsets.UTF_8));
      int key = 0;
      for (Network.Weight weight : attributes.values()) {
        ByteBuffer data =
            ByteBuffer.allocate(4 * weight.values.length).order(ByteOrder.LITTLE_ENDIAN);
        data.asFloatBuffer().put(weight.values);
        entry(zip, "data/" + key++, data.array());
      }
      entry(zip, "constants.pkl", new byte[] {(byte) 0x80, 2, ')', '.'});
      entry(zip, "version", "10\n".getBytes(StandardCharsets.UTF_8));
    }
    return bytes.toByteArray();
  }

  /** Stored, not compressed: PyTorch reads tensors in place. */
  private static void entry(ZipOutputStream zip, String name, byte[] content) throws IOException {
    CRC32 crc = new CRC32();
    crc.update(content);
    ZipEntry entry = new ZipEntry(ROOT + name);
    entry.setMethod(ZipEntry.STORED);
    entry.setSize(content.length);
    entry.setCrc(crc.getValue());
    zip.putNextEntry(entry);
    zip.write(content);
    zip.closeEntry();
  }

  // ---- code

  private String code() {
    StringBuilder code = new StringBuilder("class Network(Module):\n");
    String names = "\"" + String.join("\", \"", attributes.keySet()) + "\", ";
    code.append("  __parameters__ = [").append(names).append("]\n  __buffers__ = []\n");
    attributes.keySet().forEach(name -> code.append("  ").append(name).append(" : Tensor\n"));
    code.append("  training : bool\n");
    code.append("  def forward(self: __torch__.Network,\n    x: Tensor) -> Tensor:\n");
    lines.forEach(line -> code.append("    ").append(line).append('\n'));
    return code.append("    return x\n").toString();
  }

  private String parameter(String name) {
    String attribute = name.replace('.', '_');
    attributes.put(attribute, network.weight(name));
    return "self." + attribute;
  }

  private String parameters(String name) {
    return parameter(name + ".weight") + ", " + parameter(name + ".bias");
  }

  private void mlp() {
    lines.add("x = torch.relu(torch.linear(x, %s))".formatted(parameters("fc1")));
    lines.add("x = torch.relu(torch.linear(x, %s))".formatted(parameters("fc2")));
    lines.add("x = torch.linear(x, %s)".formatted(parameters("fc3")));
  }

  private void encoder() {
    lines.add(
        "x = torch.reshape(x, [%d, %d, %d])".formatted(batch, Network.TOKENS, Network.PIXELS));
    lines.add(
        "x = torch.add(torch.linear(x, %s), %s)".formatted(parameters("embed"), parameter("pos")));
    for (int i = 0; i < Network.LAYERS; i++) {
      if (fastPath) {
        fusedLayer("layers." + i + ".");
      } else {
        layer("layers." + i + ".");
      }
    }
    lines.add("x = torch.linear(torch.mean(x, [1]), %s)".formatted(parameters("head")));
  }

  private void fusedLayer(String layer) {
    lines.add(
        ("x = torch._transformer_encoder_layer_fwd(x, %d, %d, %s, %s, %s, True, False, %s, %s, %s,"
                + " %s, %s)")
            .formatted(
                Network.WIDTH,
                Network.HEADS,
                parameter(layer + "self_attn.in_proj_weight"),
                parameter(layer + "self_attn.in_proj_bias"),
                parameters(layer + "self_attn.out_proj"),
                Network.EPS,
                parameters(layer + "norm1"),
                parameters(layer + "norm2"),
                parameters(layer + "linear1"),
                parameters(layer + "linear2")));
  }

  private void layer(String layer) {
    lines.add(
        "packed = torch.linear(x, %s, %s)"
            .formatted(
                parameter(layer + "self_attn.in_proj_weight"),
                parameter(layer + "self_attn.in_proj_bias")));
    lines.add(
        "heads = torch.permute(torch.reshape(packed, [%d, %d, 3, %d, %d]), [2, 0, 3, 1, 4])"
            .formatted(batch, Network.TOKENS, Network.HEADS, Network.HEAD));
    lines.add(
        "attended = torch.scaled_dot_product_attention(torch.select(heads, 0, 0),"
            + " torch.select(heads, 0, 1), torch.select(heads, 0, 2))");
    lines.add(
        "joined = torch.reshape(torch.permute(attended, [0, 2, 1, 3]), [%d, %d, %d])"
            .formatted(batch, Network.TOKENS, Network.WIDTH));
    lines.add("y = torch.linear(joined, %s)".formatted(parameters(layer + "self_attn.out_proj")));
    lines.add(
        "x = torch.layer_norm(torch.add(x, y), [%d], %s)"
            .formatted(Network.WIDTH, norm(layer + "norm1")));
    lines.add("y = torch.gelu(torch.linear(x, %s))".formatted(parameters(layer + "linear1")));
    lines.add("y = torch.linear(y, %s)".formatted(parameters(layer + "linear2")));
    lines.add(
        "x = torch.layer_norm(torch.add(x, y), [%d], %s)"
            .formatted(Network.WIDTH, norm(layer + "norm2")));
  }

  private String norm(String name) {
    return parameters(name) + ", " + Network.EPS;
  }

  // ---- pickle

  private byte[] pickledModule() throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeByte(0x80); // PROTO
    out.writeByte(2);
    global(out, "__torch__", "Network");
    out.writeBytes(")\u0081}("); // EMPTY_TUPLE NEWOBJ EMPTY_DICT MARK
    int key = 0;
    for (Map.Entry<String, Network.Weight> attribute : attributes.entrySet()) {
      text(out, attribute.getKey());
      tensor(out, attribute.getValue(), key++);
    }
    text(out, "training");
    out.writeByte(0x89); // NEWFALSE
    out.writeBytes("ub."); // SETITEMS BUILD STOP
    return bytes.toByteArray();
  }

  private static void tensor(DataOutputStream out, Network.Weight weight, int key)
      throws IOException {
    global(out, "torch._utils", "_rebuild_tensor_v2");
    out.writeBytes("(("); // MARK MARK
    text(out, "storage");
    global(out, "torch", "FloatStorage");
    text(out, Integer.toString(key));
    text(out, "cpu");
    number(out, weight.values.length);
    out.writeBytes("tQ"); // TUPLE BINPERSID
    number(out, 0);
    tuple(out, weight.shape);
    long[] strides = new long[weight.shape.length];
    long stride = 1;
    for (int axis = strides.length - 1; axis >= 0; axis--) {
      strides[axis] = stride;
      stride *= weight.shape[axis];
    }
    tuple(out, strides);
    out.writeByte(0x89); // NEWFALSE: needs no gradient
    global(out, "collections", "OrderedDict");
    out.writeBytes(")RtR"); // EMPTY_TUPLE REDUCE TUPLE REDUCE
  }

  private static void tuple(DataOutputStream out, long[] values) throws IOException {
    out.writeByte('('); // MARK
    for (long value : values) {
      number(out, (int) value);
    }
    out.writeByte('t'); // TUPLE
  }

  private static void global(DataOutputStream out, String module, String name) throws IOException {
    out.writeBytes("c" + module + "\n" + name + "\n");
  }

  private static void text(DataOutputStream out, String text) throws IOException {
    out.writeByte('X'); // BINUNICODE
    out.writeInt(Integer.reverseBytes(text.length()));
    out.writeBytes(text);
  }

  private static void number(DataOutputStream out, int value) throws IOException {
    out.writeByte('J'); // BININT
    out.writeInt(Integer.reverseBytes(value));
  }
}
