package dev.metalstreams.bench;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import java.util.List;

/** This library: the pool gives each thread a stream of its own. */
final class OwnEngine implements Engine {
  private final Device device;
  private final Executable executable;
  private final int batch;

  OwnEngine(Network network, int batch, int threads) {
    this.device = Device.builder().backend("host").workers(threads).open();
    this.executable = device.compile(graph(network, batch));
    this.batch = batch;
  }

  static String description() {
    try (Device device = Device.builder().backend("host").open()) {
      return device.info().math();
    }
  }

  private static Graph graph(Network network, int batch) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, batch, Network.INPUTS);
          g.output(
              "y",
              network.kind() == Network.Kind.MLP ? mlp(g, network, x) : encoder(g, network, x));
        });
  }

  private static Node mlp(GraphBuilder g, Network network, Node x) {
    Node first = g.relu(linear(g, network, x, "fc1"));
    Node second = g.relu(linear(g, network, first, "fc2"));
    return linear(g, network, second, "fc3");
  }

  private static Node encoder(GraphBuilder g, Network network, Node in) {
    long batch = in.shape()[0];
    Node tokens = g.reshape(in, batch, Network.TOKENS, Network.PIXELS);
    Node x = g.add(linear(g, network, tokens, "embed"), constant(g, network, "pos"));
    for (int i = 0; i < Network.LAYERS; i++) {
      String layer = "layers." + i + ".";
      Node attended =
          g.multiHeadAttention(
              x,
              Network.HEADS,
              constant(g, network, layer + "self_attn.in_proj_weight"),
              constant(g, network, layer + "self_attn.in_proj_bias"),
              constant(g, network, layer + "self_attn.out_proj.weight"),
              constant(g, network, layer + "self_attn.out_proj.bias"));
      Node first = norm(g, network, g.add(x, attended), layer + "norm1");
      Node hidden = g.gelu(linear(g, network, first, layer + "linear1"));
      Node fed = linear(g, network, hidden, layer + "linear2");
      x = norm(g, network, g.add(first, fed), layer + "norm2");
    }
    return linear(g, network, g.mean(x, false, 1), "head");
  }

  private static Node linear(GraphBuilder g, Network network, Node x, String name) {
    return g.linear(
        x, constant(g, network, name + ".weight"), constant(g, network, name + ".bias"));
  }

  private static Node norm(GraphBuilder g, Network network, Node x, String name) {
    return g.layerNorm(
        x,
        constant(g, network, name + ".weight"),
        constant(g, network, name + ".bias"),
        Network.EPS);
  }

  private static Node constant(GraphBuilder g, Network network, String name) {
    return g.constant(network.weight(name).values, network.weight(name).shape);
  }

  @Override
  public Session session() {
    Tensor x = device.empty(DType.F32, batch, Network.INPUTS);
    Tensor y = device.empty(DType.F32, batch, Network.OUTPUTS);
    List<Tensor> inputs = List.of(x);
    List<Tensor> outputs = List.of(y);
    return new Session() {
      @Override
      public void run(float[] in, float[] out) {
        x.write(in);
        executable.runInto(inputs, outputs);
        y.toFloats(out);
      }

      @Override
      public void close() {
        x.close();
        y.close();
      }
    };
  }

  @Override
  public void close() {
    executable.close();
    device.close();
  }
}
