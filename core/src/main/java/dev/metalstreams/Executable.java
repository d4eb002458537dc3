package dev.metalstreams;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.MatmulPath;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * A compiled {@link Graph}. May be run by any number of threads on any streams at once. Executables
 * of equal graphs share what was compiled.
 *
 * <p>A run is encoded and returns; the outputs are there when their work is done, which {@link
 * Tensor#toFloats} waits for. Inputs that other streams still write must be ordered by an event.
 *
 * <p>All runs throw {@link IllegalArgumentException} if the number, type, shape or device of a
 * tensor is wrong, or an output is also an input or another output; {@link IllegalStateException}
 * if a tensor or this executable is closed; {@link StreamFailedException} if the stream has failed.
 */
public final class Executable implements AutoCloseable {
  private final Device device;
  private final Graph graph;
  private final GraphCache.Program program;
  private final long handle;
  private final String name;
  private final Lifetime lifetime = new Lifetime();

  Executable(Device device, Graph graph, GraphCache.Program program) {
    this.device = device;
    this.graph = graph;
    this.program = program;
    this.handle = program.handle();
    this.name = name(graph);
  }

  /** The operations that give the outputs. */
  private static String name(Graph graph) {
    return graph.outputs().stream()
        .map(output -> output.name().replaceFirst("#.*", ""))
        .distinct()
        .collect(Collectors.joining(", "));
  }

  /** What it computes. */
  public Graph graph() {
    return graph;
  }

  /**
   * What would compute its matrix products if it were run now, alone. On Metal that depends on how
   * many streams are live: {@link MatmulPath#NDARRAY} only while it is at most one besides stream
   * 0.
   *
   * @throws IllegalStateException if this executable is closed
   */
  public MatmulPath path() {
    acquire();
    try {
      int flags = device.encodeGate().few() ? Driver.ENCODE_SOLE : Driver.ENCODE_DEFAULT;
      return device.driver().path(handle, flags);
    } catch (DriverException e) {
      throw device.translate(e, "asking for the path of " + graph);
    } finally {
      release();
    }
  }

  /** Runs a graph with one output on the current stream; the result is the caller's to close. */
  public Tensor run(Tensor... inputs) {
    return run(device.streams().current(), inputs);
  }

  /** Runs a graph with one output on a stream; the result is the caller's to close. */
  public Tensor run(DeviceStream stream, Tensor... inputs) {
    if (graph.outputs().size() != 1) {
      throw new IllegalStateException(
          "the graph has " + graph.outputs().size() + " outputs: use runAll");
    }
    return runAll(stream, inputs).get(0);
  }

  /**
   * Runs on the current stream; the results, in the order of the graph's outputs, are the caller's
   * to close.
   */
  public List<Tensor> runAll(Tensor... inputs) {
    return runAll(device.streams().current(), inputs);
  }

  /**
   * Runs on a stream; the results, in the order of the graph's outputs, are the caller's to close.
   */
  public List<Tensor> runAll(DeviceStream stream, Tensor... inputs) {
    checkStream(stream);
    List<Tensor> given = Arrays.asList(Objects.requireNonNull(inputs, "inputs"));
    check("input", graph.inputs(), given);
    List<Node> nodes = graph.outputs();
    List<Tensor> outputs = new ArrayList<>(nodes.size());
    try {
      for (int i = 0; i < nodes.size(); i++) {
        Node node = nodes.get(i);
        outputs.add(device.empty(stream, node.type(), node.extents()));
      }
      encode(stream, given, outputs);
      return outputs;
    } catch (RuntimeException e) {
      outputs.forEach(Tensor::close);
      throw e;
    }
  }

  /** Runs on the current stream and writes into given tensors. */
  public void runInto(List<Tensor> inputs, List<Tensor> outputs) {
    runInto(device.streams().current(), inputs, outputs);
  }

  /** Runs on a stream and writes into given tensors. */
  public void runInto(DeviceStream stream, List<Tensor> inputs, List<Tensor> outputs) {
    checkStream(stream);
    check("input", graph.inputs(), Objects.requireNonNull(inputs, "inputs"));
    check("output", graph.outputs(), Objects.requireNonNull(outputs, "outputs"));
    for (int i = 0; i < outputs.size(); i++) {
      Tensor output = outputs.get(i);
      for (int j = 0; j < inputs.size(); j++) {
        if (inputs.get(j).buffer() == output.buffer()) {
          throw new IllegalArgumentException("output " + i + " is also input " + j);
        }
      }
      for (int j = 0; j < i; j++) {
        if (outputs.get(j).buffer() == output.buffer()) {
          throw new IllegalArgumentException("output " + i + " is also output " + j);
        }
      }
    }
    encode(stream, inputs, outputs);
  }

  private void encode(DeviceStream stream, List<Tensor> inputs, List<Tensor> outputs) {
    acquire();
    int held = 0;
    try {
      for (; held < inputs.size(); held++) {
        inputs.get(held).buffer().acquire(device);
      }
      for (; held < inputs.size() + outputs.size(); held++) {
        outputs.get(held - inputs.size()).buffer().acquire(device);
      }
      stream.execute(handle, name, inputs, outputs);
    } finally {
      while (held > 0) {
        held--;
        Tensor tensor = held < inputs.size() ? inputs.get(held) : outputs.get(held - inputs.size());
        tensor.buffer().release();
      }
      release();
    }
  }

  private void acquire() {
    if (!lifetime.acquire()) {
      device.checkOpen();
      throw new IllegalStateException("the executable is closed");
    }
  }

  private void release() {
    if (lifetime.release()) {
      device.destroyed(this);
    }
  }

  private void checkStream(DeviceStream stream) {
    if (Objects.requireNonNull(stream, "stream").device() != device) {
      throw new IllegalArgumentException("the stream belongs to another device");
    }
  }

  private static void check(String kind, List<Node> nodes, List<Tensor> tensors) {
    if (tensors.size() != nodes.size()) {
      throw new IllegalArgumentException(
          "the graph has " + nodes.size() + " " + kind + "s, not " + tensors.size());
    }
    for (int i = 0; i < nodes.size(); i++) {
      Node node = nodes.get(i);
      Tensor tensor = Objects.requireNonNull(tensors.get(i), node.name());
      if (tensor.type() != node.type() || !tensor.extents().equals(node.extents())) {
        throw new IllegalArgumentException(
            kind
                + " "
                + i
                + " ("
                + node.name()
                + ") is "
                + node.type()
                + " "
                + node.extents()
                + ", not "
                + tensor.type()
                + " "
                + tensor.extents());
      }
    }
  }

  GraphCache.Program program() {
    return program;
  }

  /** Ends it. Runs that are under way are not affected. Idempotent. */
  @Override
  public void close() {
    if (lifetime.close()) {
      device.destroyed(this);
    }
  }

  @Override
  public String toString() {
    return "executable of " + graph;
  }
}
