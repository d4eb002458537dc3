package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.junit.jupiter.params.provider.Arguments.argumentSet;

import dev.metalstreams.conformance.Reference.Nodes;
import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.assertj.core.api.Assertions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments.ArgumentSet;
import org.junit.jupiter.params.provider.MethodSource;

/** Compiled graphs against a plain reference. */
class GraphConformanceTest extends DriverConformance {

  @ParameterizedTest
  @MethodSource("graphs")
  void computeWhatTheReferenceComputes(GraphSpec graph) {
    Random random = new Random(42);
    List<float[]> inputs = new ArrayList<>();
    for (NodeSpec node : graph.nodes()) {
      if (node instanceof NodeSpec.Input input) {
        int elements = Math.toIntExact(input.shape().stream().reduce(1L, (a, b) -> a * b));
        float[] values = new float[elements];
        for (int i = 0; i < elements; i++) {
          values[i] = random.nextFloat() * 2 - 1;
        }
        inputs.add(values);
      }
    }
    float[][] given = inputs.toArray(new float[0][]);
    float[] expected = Reference.evaluate(graph, given);
    assertThat(rig.run(graph, expected.length, given)).containsExactly(expected, within(1e-5f));
  }

  @Test
  void keepWhatIsSpecial() {
    float nan = Float.NaN;
    float inf = Float.POSITIVE_INFINITY;
    Nodes g = new Nodes();
    GraphSpec graph = g.output(g.relu(g.input(6))).spec();
    float[] result = rig.run(graph, 6, new float[] {nan, inf, -inf, 0f, -1f, 1e-40f});
    assertThat(result).containsExactly(nan, inf, 0f, 0f, 0f, 1e-40f);
    Nodes h = new Nodes();
    GraphSpec sum = h.output(h.sum(h.input(3), h.input(1))).spec();
    assertThat(rig.run(sum, 3, new float[] {nan, inf, 1}, new float[] {-inf}))
        .containsExactly(nan, nan, -inf);
  }

  @Test
  void haveSeveralOutputs() {
    Rig.Queue queue = rig.queue();
    Nodes g = new Nodes();
    int x = g.input(2);
    int twice = g.sum(x, x);
    int positive = g.relu(twice);
    long executable = driver.compile(g.output(positive).output(twice).spec());
    long in = rig.floats(-1, 3);
    long first = rig.floats(0, 0);
    long second = rig.floats(0, 0);
    queue.submit(
        value ->
            driver.encodeExecutable(
                queue.handle, value, executable, rig.arguments(in, first, second), 3));
    queue.finish();
    assertThat(rig.readFloats(first, 2)).containsExactly(0, 6);
    assertThat(rig.readFloats(second, 2)).containsExactly(-2, 6);
  }

  @Test
  void takeOneBufferForTwoInputs() {
    Rig.Queue queue = rig.queue();
    Nodes g = new Nodes();
    long executable = driver.compile(g.output(g.sum(g.input(2), g.input(2))).spec());
    long in = rig.floats(1, 3);
    long out = rig.floats(0, 0);
    queue.submit(
        value ->
            driver.encodeExecutable(
                queue.handle, value, executable, rig.arguments(in, in, out), 3));
    queue.finish();
    assertThat(rig.readFloats(out, 2)).containsExactly(2, 6);
  }

  @Test
  void leaveTheRestOfLongerBuffersAlone() {
    Rig.Queue queue = rig.queue();
    long executable = driver.compile(relu());
    long in = rig.floats(-1, 3, -5);
    long out = rig.floats(7, 7, 7);
    queue.submit(
        value ->
            driver.encodeExecutable(queue.handle, value, executable, rig.arguments(in, out, 0), 2));
    queue.finish();
    assertThat(rig.readFloats(out, 3)).containsExactly(0, 3, 7);
    assertThat(rig.readFloats(in, 3)).containsExactly(-1, 3, -5);
  }

  @Test
  void mayEndWhileTheirWorkIsUnderWay() {
    Rig.Queue queue = rig.queue();
    long executable = driver.compile(relu());
    long in = rig.floats(-1, 3);
    long out = rig.floats(7, 7);
    subject.hold(driver, queue.handle);
    queue.submit(
        value ->
            driver.encodeExecutable(queue.handle, value, executable, rig.arguments(in, out), 2));
    driver.destroyExecutable(executable);
    subject.release(driver, queue.handle);
    queue.finish();
    assertThat(rig.readFloats(out, 2)).containsExactly(0, 3);
  }

  @Test
  void readTheirArgumentsDuringTheCallOnly() {
    Rig.Queue queue = rig.queue();
    long executable = driver.compile(relu());
    long in = rig.floats(-1, 3);
    long out = rig.floats(7, 7);
    long other = rig.floats(8, 8);
    Arguments arguments = rig.arguments(in, out);
    subject.hold(driver, queue.handle);
    queue.submit(value -> driver.encodeExecutable(queue.handle, value, executable, arguments, 2));
    arguments.set(0, other);
    arguments.set(1, other);
    subject.release(driver, queue.handle);
    queue.finish();
    assertThat(rig.readFloats(out, 2)).containsExactly(0, 3);
    assertThat(rig.readFloats(other, 2)).containsExactly(8, 8);
  }

  @Test
  void runOnManyQueuesAtOnce() {
    Nodes g = new Nodes();
    int x = g.input(8, 8);
    GraphSpec graph = g.output(g.relu(g.matmul(x, g.matmulTransposed(x, x)))).spec();
    long executable = driver.compile(graph);
    Random random = new Random(7);
    List<Rig.Queue> queues = IntStream.range(0, 8).mapToObj(i -> rig.queue()).toList();
    List<float[]> inputs = new ArrayList<>();
    List<Long> outputs = new ArrayList<>();
    for (Rig.Queue queue : queues) {
      float[] input = new float[64];
      for (int i = 0; i < 64; i++) {
        input[i] = random.nextFloat() - 0.5f;
      }
      inputs.add(input);
      long in = rig.floats(input);
      long out = driver.createBuffer(256);
      outputs.add(out);
      for (int i = 0; i < 20; i++) {
        queue.submit(
            value ->
                driver.encodeExecutable(
                    queue.handle, value, executable, rig.arguments(in, out), 2));
      }
    }
    for (int i = 0; i < queues.size(); i++) {
      queues.get(i).finish();
      assertThat(rig.readFloats(outputs.get(i), 64))
          .containsExactly(Reference.evaluate(graph, inputs.get(i)), within(1e-5f));
    }
  }

  @ParameterizedTest
  @MethodSource("invalidGraphs")
  void thatAreWrongAreRefused(GraphSpec graph) {
    refused(Status.INVALID_ARGUMENT, () -> driver.compile(graph));
    driver.destroyExecutable(driver.compile(relu()));
  }

  @Test
  void withoutOutputsAreRefused() {
    Nodes g = new Nodes();
    g.relu(g.input(2));
    Assertions.assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.compile(g.spec()));
    Assertions.assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.compile(new GraphSpec(List.of(), List.of())));
  }

  @Test
  void refuseWrongArguments() {
    Rig.Queue queue = rig.queue();
    Nodes g = new Nodes();
    int a = g.input(2);
    int b = g.input(2);
    int sum = g.sum(a, b);
    long executable = driver.compile(g.output(sum).output(g.relu(sum)).spec());
    long x = rig.floats(1, 2);
    long y = rig.floats(1, 2);
    long r = rig.floats(1, 2);
    long s = rig.floats(1, 2);
    long tooShort = rig.buffer(7, 0);
    long value = queue.begin();
    List<Arguments> wrong =
        List.of(
            rig.arguments(tooShort, y, r, s),
            rig.arguments(x, tooShort, r, s),
            rig.arguments(x, y, tooShort, s),
            rig.arguments(x, y, r, tooShort),
            rig.arguments(x, y, r, r),
            rig.arguments(x, y, x, s),
            rig.arguments(x, y, r, y));
    for (Arguments arguments : wrong) {
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeExecutable(queue.handle, value, executable, arguments, 4));
    }
    Arguments right = rig.arguments(x, y, r, s);
    for (int count : new int[] {0, 3, 5, -1, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
      refused(
          Status.INVALID_ARGUMENT,
          () -> driver.encodeExecutable(queue.handle, value, executable, right, count));
    }
    refused(
        Status.INVALID_ARGUMENT,
        () -> driver.encodeExecutable(queue.handle, value, executable, rig.arguments(x, y), 4));
    driver.encodeExecutable(queue.handle, value, executable, right, 4);
    queue.commit();
    queue.finish();
    assertThat(rig.readFloats(s, 2)).containsExactly(2, 4);
    driver.destroyBuffer(tooShort);
  }

  @Test
  void haveSlotsThatCheckTheirIndex() {
    Arguments arguments = driver.newArguments(2);
    assertThat(arguments.capacity()).isEqualTo(2);
    for (int index : new int[] {-1, 2, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
      Assertions.assertThatExceptionOfType(IndexOutOfBoundsException.class)
          .isThrownBy(() -> arguments.set(index, 1));
    }
  }

  static List<ArgumentSet> graphs() {
    List<ArgumentSet> graphs = new ArrayList<>();
    Nodes g = new Nodes();
    graphs.add(graph("matmul", g.output(g.matmul(g.input(3, 5), g.input(5, 4)))));
    g = new Nodes();
    graphs.add(graph("transposed", g.output(g.matmulTransposed(g.input(3, 5), g.input(4, 5)))));
    g = new Nodes();
    graphs.add(graph("1x1", g.output(g.matmul(g.input(1, 1), g.input(1, 1)))));
    g = new Nodes();
    graphs.add(graph("row times column", g.output(g.matmul(g.input(1, 9), g.input(9, 1)))));
    g = new Nodes();
    graphs.add(graph("column times row", g.output(g.matmul(g.input(9, 1), g.input(1, 9)))));
    g = new Nodes();
    graphs.add(graph("batched", g.output(g.matmul(g.input(2, 3, 4, 5), g.input(2, 3, 5, 6)))));
    g = new Nodes();
    graphs.add(graph("batched, shared b", g.output(g.matmul(g.input(2, 3, 4, 5), g.input(5, 6)))));
    g = new Nodes();
    graphs.add(
        graph(
            "batched, transposed",
            g.output(g.matmulTransposed(g.input(3, 4, 5), g.input(3, 6, 5)))));
    g = new Nodes();
    graphs.add(
        graph(
            "batched, shared, transposed",
            g.output(g.matmulTransposed(g.input(3, 4, 5), g.input(6, 5)))));
    g = new Nodes();
    graphs.add(graph("33x65x17", g.output(g.matmul(g.input(33, 65), g.input(65, 17)))));
    g = new Nodes();
    graphs.add(graph("add", g.output(g.sum(g.input(3, 5), g.input(3, 5)))));
    g = new Nodes();
    graphs.add(graph("add a row", g.output(g.sum(g.input(3, 5), g.input(5)))));
    g = new Nodes();
    graphs.add(graph("add to a row", g.output(g.sum(g.input(5), g.input(3, 5)))));
    g = new Nodes();
    graphs.add(graph("add a column", g.output(g.sum(g.input(3, 5), g.input(3, 1)))));
    g = new Nodes();
    graphs.add(graph("add row and column", g.output(g.sum(g.input(1, 5), g.input(3, 1)))));
    g = new Nodes();
    graphs.add(graph("add a scalar", g.output(g.sum(g.input(3, 5), g.input()))));
    g = new Nodes();
    graphs.add(graph("add scalars", g.output(g.sum(g.input(), g.input()))));
    g = new Nodes();
    graphs.add(
        graph("add in the middle", g.output(g.sum(g.input(2, 1, 4, 1, 3), g.input(5, 1, 6, 1)))));
    g = new Nodes();
    graphs.add(
        graph(
            "rank 8",
            g.output(g.sum(g.input(2, 1, 2, 1, 2, 1, 2, 1), g.input(1, 2, 1, 2, 1, 2, 1, 2)))));
    g = new Nodes();
    graphs.add(graph("relu", g.output(g.relu(g.input(4, 7)))));
    g = new Nodes();
    int x = g.input(4, 6);
    int hidden = g.relu(g.sum(g.matmulTransposed(x, g.input(8, 6)), g.input(8)));
    int logits = g.sum(g.matmulTransposed(hidden, g.input(3, 8)), g.input(3));
    graphs.add(graph("two layers", g.output(logits)));
    g = new Nodes();
    x = g.input(4, 4);
    graphs.add(graph("one node twice", g.output(g.sum(g.matmul(x, x), g.sum(x, x)))));
    g = new Nodes();
    x = g.input(4, 4);
    g.relu(g.input(3));
    graphs.add(graph("nodes that no output needs", g.output(g.relu(x))));
    return graphs;
  }

  private static ArgumentSet graph(String name, Nodes nodes) {
    return argumentSet(name, nodes.spec());
  }

  static List<ArgumentSet> invalidGraphs() {
    List<ArgumentSet> graphs = new ArrayList<>();
    Nodes g = new Nodes();
    graphs.add(graph("inner dimensions", g.output(g.matmul(g.input(3, 5), g.input(4, 5)))));
    g = new Nodes();
    graphs.add(
        graph(
            "inner dimensions, transposed",
            g.output(g.matmulTransposed(g.input(3, 5), g.input(5, 4)))));
    g = new Nodes();
    graphs.add(graph("rank of a", g.output(g.matmul(g.input(5), g.input(5, 4)))));
    g = new Nodes();
    graphs.add(graph("rank of b", g.output(g.matmul(g.input(4, 5), g.input(5)))));
    g = new Nodes();
    graphs.add(graph("leading", g.output(g.matmul(g.input(2, 3, 5), g.input(3, 5, 4)))));
    g = new Nodes();
    graphs.add(graph("leading rank", g.output(g.matmul(g.input(3, 5), g.input(3, 5, 4)))));
    g = new Nodes();
    graphs.add(graph("broadcast", g.output(g.sum(g.input(3, 5), g.input(3, 4)))));
    g = new Nodes();
    graphs.add(graph("zero dimension", g.output(g.relu(g.input(3, 0)))));
    g = new Nodes();
    graphs.add(graph("negative dimension", g.output(g.relu(g.input(3, -1)))));
    g = new Nodes();
    graphs.add(graph("rank 9", g.output(g.relu(g.input(1, 1, 1, 1, 1, 1, 1, 1, 1)))));
    g = new Nodes();
    graphs.add(graph("2^62 floats", g.output(g.relu(g.input(1L << 31, 1L << 31)))));
    g = new Nodes();
    graphs.add(graph("2^64 floats", g.output(g.relu(g.input(1L << 32, 1L << 32)))));
    g = new Nodes();
    graphs.add(
        graph("a sum that overflows", g.output(g.sum(g.input(1L << 31, 1), g.input(1, 1L << 31)))));
    g = new Nodes();
    graphs.add(graph("no such operand", g.output(g.relu(7))));
    g = new Nodes();
    graphs.add(graph("negative operand", g.output(g.relu(-1))));
    g = new Nodes();
    graphs.add(graph("itself as operand", g.output(g.sum(g.input(2), 1))));
    g = new Nodes();
    graphs.add(graph("an input as output", g.output(g.input(2))));
    g = new Nodes();
    int twice = g.relu(g.input(2));
    graphs.add(graph("an output twice", g.output(twice).output(twice)));
    g = new Nodes();
    g.relu(g.input(2));
    graphs.add(graph("no such output", g.output(2)));
    g = new Nodes();
    g.relu(g.input(2));
    graphs.add(graph("negative output", g.output(-1)));
    return graphs;
  }

  // ---- paths

  @Test
  void thePathIsThatOfTheBackendAndOfTheFlags() {
    Nodes none = new Nodes();
    long relu = driver.compile(none.output(none.relu(none.input(2))).spec());
    Nodes alone = new Nodes();
    long product =
        driver.compile(alone.output(alone.matmul(alone.input(2, 2), alone.input(2, 2))).spec());
    for (int flags : new int[] {Driver.ENCODE_DEFAULT, Driver.ENCODE_SOLE}) {
      assertThat(driver.path(relu, flags)).isEqualTo(MatmulPath.NONE);
    }
    MatmulPath graph = driver.path(product, Driver.ENCODE_DEFAULT);
    MatmulPath sole = driver.path(product, Driver.ENCODE_SOLE);
    if (driver.info().backend().equals("host")) {
      assertThat(List.of(graph, sole)).containsOnly(MatmulPath.CPU);
    } else {
      assertThat(graph).isEqualTo(MatmulPath.GRAPH);
      assertThat(sole).isEqualTo(MatmulPath.NDARRAY); // Metal: from macOS 15 on
    }
    refused(Status.INVALID_ARGUMENT, () -> driver.path(product, 2));
    driver.destroyExecutable(relu);
    driver.destroyExecutable(product);
  }

  /** Encoded either way, a product is right, and counted. */
  @Test
  void productsAreCounted() {
    Nodes g = new Nodes();
    long product = driver.compile(g.output(g.matmul(g.input(2, 2), g.input(2, 2))).spec());
    long a = rig.floats(1, 2, 3, 4);
    long b = rig.floats(5, 6, 7, 8);
    long y = rig.floats(0, 0, 0, 0);
    Rig.Queue queue = rig.queue();
    for (int flags : new int[] {Driver.ENCODE_DEFAULT, Driver.ENCODE_SOLE}) {
      driver.contents(y, 0, 16).asFloatBuffer().put(new float[4]);
      queue.submit(
          value ->
              driver.encodeExecutable(
                  queue.handle, value, product, rig.arguments(a, b, y), 3, flags));
      queue.finish();
      assertThat(rig.readFloats(y, 4)).containsExactly(19, 22, 43, 50);
    }
    DriverCounters counters = driver.counters();
    assertThat(counters.matmulsByGraph() + counters.matmulsByNdarray()).isEqualTo(2);
    assertThat(counters.agxGuard()).isEqualTo(DriverCounters.AgxGuard.OFF);
    refused(
        Status.INVALID_ARGUMENT,
        () -> {
          long value = queue.begin();
          driver.encodeExecutable(queue.handle, value, product, rig.arguments(a, b, y), 3, 2);
        });
    driver.discard(queue.handle, queue.committed + 1);
    driver.destroyExecutable(product);
    for (long buffer : new long[] {a, b, y}) {
      driver.destroyBuffer(buffer);
    }
  }
}
