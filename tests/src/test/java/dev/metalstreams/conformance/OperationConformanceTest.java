package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.junit.jupiter.params.provider.Arguments.argumentSet;

import dev.metalstreams.conformance.Reference.Nodes;
import dev.metalstreams.driver.ConstantData;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import dev.metalstreams.driver.NodeSpec.BinaryOperation;
import dev.metalstreams.driver.NodeSpec.UnaryOperation;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Erf;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import java.util.function.ToIntFunction;
import java.util.stream.Stream;
import org.assertj.core.api.Assertions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments.ArgumentSet;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every operation of a graph, alone and in the combinations that a compiler may want to merge. */
class OperationConformanceTest extends DriverConformance {
  private static final float INF = Float.POSITIVE_INFINITY;
  private static final float NAN = Float.NaN;

  @ParameterizedTest
  @MethodSource("graphs")
  void computesWhatTheReferenceComputes(GraphSpec graph) {
    Random random = new Random(42);
    List<float[]> inputs = new ArrayList<>();
    for (NodeSpec node : graph.nodes()) {
      if (node instanceof NodeSpec.Input input) {
        inputs.add(
            values(Math.toIntExact(input.shape().stream().reduce(1L, (a, b) -> a * b)), random));
      }
    }
    float[][] given = inputs.toArray(new float[0][]);
    float[] expected = Reference.evaluate(graph, given);
    assertThat(rig.run(graph, expected.length, given)).containsExactly(expected, within(2e-5f));
  }

  /** Over the whole range, against double precision. */
  @ParameterizedTest
  @MethodSource("functions")
  void isAccurate(UnaryOperation operation, DoubleUnaryOperator exact) {
    float[] arguments = new float[40_003];
    for (int i = 0; i < arguments.length; i++) {
      arguments[i] = (i - arguments.length / 2) * 5e-4f; // -10 to 10
    }
    float[] results = rig.run(unary(operation, arguments.length), arguments.length, arguments);
    for (int i = 0; i < arguments.length; i++) {
      double expected = exact.applyAsDouble(arguments[i]);
      assertThat(results[i])
          .as("%s of %s", operation, arguments[i])
          .isCloseTo((float) expected, within((float) (Math.abs(expected) * 1e-6 + 1e-9)));
    }
  }

  static Stream<ArgumentSet> functions() {
    return Stream.of(
        function(UnaryOperation.SIGMOID, x -> 1 / (1 + Math.exp(-x))),
        function(UnaryOperation.TANH, Math::tanh),
        function(UnaryOperation.GELU, x -> x / 2 * (1 + Erf.erf(x / Math.sqrt(2)))),
        function(
            UnaryOperation.GELU_TANH,
            x -> x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)))));
  }

  private static ArgumentSet function(UnaryOperation operation, DoubleUnaryOperator exact) {
    return argumentSet(operation.name(), operation, exact);
  }

  @ParameterizedTest
  @MethodSource("limits")
  void hasLimits(UnaryOperation operation, float atMinusInfinity, float atInfinity) {
    float[] arguments = {-INF, -1e30f, -200, 0, 200, 1e30f, INF, NAN, 1e-30f, -0.5f};
    float[] results = rig.run(unary(operation, arguments.length), arguments.length, arguments);
    assertThat(results[0]).isEqualTo(atMinusInfinity + 0f);
    assertThat(results[1]).isEqualTo(atMinusInfinity + 0f);
    assertThat(results[2]).isCloseTo(atMinusInfinity, within(1e-30f));
    assertThat(results[4])
        .isEqualTo(operation == UnaryOperation.TANH ? 1 : Math.min(atInfinity, 200));
    assertThat(results[5]).isEqualTo(Math.min(atInfinity, 1e30f));
    assertThat(results[6]).isEqualTo(atInfinity);
    assertThat(results[7]).isNaN();
  }

  static Stream<ArgumentSet> limits() {
    return Stream.of(
        argumentSet("sigmoid", UnaryOperation.SIGMOID, 0f, 1f),
        argumentSet("tanh", UnaryOperation.TANH, -1f, 1f),
        argumentSet("gelu", UnaryOperation.GELU, 0f, INF),
        argumentSet("gelu tanh", UnaryOperation.GELU_TANH, 0f, INF));
  }

  /** Some GPUs sum no more than 32768 products. */
  @ParameterizedTest
  @CsvSource({"false, false", "false, true", "true, false", "true, true"})
  void productsOfLongRowsAreWhole(boolean transposeA, boolean transposeB) {
    long inner = 40_000;
    Nodes g = new Nodes();
    int a = transposeA ? g.input(inner, 2) : g.input(2, inner);
    int b = transposeB ? g.input(3, inner) : g.input(inner, 3);
    GraphSpec graph = g.output(g.matmul(a, transposeA, b, transposeB)).spec();
    float[] left = new float[80_000];
    float[] right = new float[120_000];
    Arrays.fill(left, 1);
    Arrays.fill(right, 2);
    float all = 2 * inner;
    assertThat(rig.run(graph, 6, left, right)).containsExactly(all, all, all, all, all, all);
  }

  /** Some GPUs count the matrices of a batch with 16 bits. */
  @Test
  void everyMatrixOfALargeBatchIsMultiplied() {
    int batch = 70_000;
    Nodes g = new Nodes();
    GraphSpec graph = g.output(g.matmul(g.input(batch, 1, 1), g.input(batch, 1, 1))).spec();
    float[] left = new float[batch];
    float[] right = new float[batch];
    for (int i = 0; i < batch; i++) {
      left[i] = i;
      right[i] = 2;
    }
    float[] results = rig.run(graph, batch, left, right);
    for (int i = 0; i < batch; i++) {
      assertThat(results[i]).as("matrix %s", i).isEqualTo(2f * i);
    }
  }

  @Test
  void softmaxOfExtremeRows() {
    Nodes g = new Nodes();
    GraphSpec graph = g.output(g.softmax(g.input(5, 4))).spec();
    float[] x = {
      1e30f, -1e30f, 0, 1e30f, //
      1000, 1000, 1000, 1000, //
      -1e30f, -1e30f, -1e30f, -1e30f, //
      -INF, 0, 0, -INF, //
      -INF, -INF, -INF, -INF
    };
    float quarter = 0.25f;
    assertThat(rig.run(graph, 20, x))
        .containsExactly(
            0.5f, 0, 0, 0.5f, //
            quarter, quarter, quarter, quarter, //
            quarter, quarter, quarter, quarter, //
            0, 0.5f, 0.5f, 0, //
            NAN, NAN, NAN, NAN);
  }

  @ParameterizedTest
  @MethodSource("rowLengths")
  void layerNormOfCloseValues(int columns) {
    int rows = 3;
    Nodes g = new Nodes();
    int x = g.input(rows, columns);
    GraphSpec graph = g.output(g.layerNorm(x, g.input(columns), g.input(columns), 1e-9f)).spec();
    Random random = new Random(5);
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = 100 + 0.001f * (float) random.nextGaussian();
    }
    float[] gamma = values(columns, random);
    float[] beta = values(columns, random);
    float[] expected = Reference.evaluate(graph, values, gamma, beta);
    assertThat(rig.run(graph, values.length, values, gamma, beta))
        .containsExactly(expected, within(1e-4f));
  }

  @ParameterizedTest
  @MethodSource("rowLengths")
  void layerNormWithoutAGraph(int columns) {
    int rows = 3;
    Nodes g = new Nodes();
    int x = g.input(rows, columns);
    GraphSpec graph = g.output(g.layerNorm(x, g.input(columns), g.input(columns), 1e-9f)).spec();
    Random random = new Random(6);
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = 100 + 0.001f * (float) random.nextGaussian();
    }
    float[] gamma = values(columns, random);
    float[] beta = values(columns, random);
    long[] buffers = {
      rig.floats(values), rig.floats(gamma), rig.floats(beta), rig.floats(new float[values.length])
    };
    Rig.Queue queue = rig.queue();
    queue.submit(value -> encodeLayerNorm(queue, value, buffers, rows, columns, 1e-9f));
    queue.finish();
    assertThat(queue.failed()).isZero();
    assertThat(rig.readFloats(buffers[3], values.length))
        .containsExactly(Reference.evaluate(graph, values, gamma, beta), within(1e-4f));
  }

  private void encodeLayerNorm(
      Rig.Queue queue, long value, long[] buffers, long rows, long columns, float eps) {
    driver.encodeLayerNorm(
        queue.handle, value, buffers[0], buffers[1], buffers[2], buffers[3], rows, columns, eps);
  }

  @Test
  void layerNormWithoutAGraphRefusesWhatDoesNotFit() {
    long x = rig.floats(new float[6]);
    long row = rig.floats(1, 1, 1);
    long y = rig.floats(new float[6]);
    long[] good = {x, row, row, y};
    Rig.Queue queue = rig.queue();
    long value = queue.begin();
    for (long[] size :
        new long[][] {
          {0, 3}, {2, 0}, {-1, 3}, {3, 3}, {2, 4}, {1L << 32, 3}, {1L << 31, 1L << 31}
        }) {
      refused(
          Status.INVALID_ARGUMENT,
          () -> encodeLayerNorm(queue, value, good, size[0], size[1], 1e-5f));
    }
    for (float eps : new float[] {-1, NAN, INF}) {
      refused(Status.INVALID_ARGUMENT, () -> encodeLayerNorm(queue, value, good, 2, 3, eps));
    }
    for (long[] wrong :
        new long[][] {{x, row, row, x}, {row, x, row, x}, {0, row, row, y}, {x, row, row, 0}}) {
      refused(Status.INVALID_ARGUMENT, () -> encodeLayerNorm(queue, value, wrong, 2, 3, 0));
    }
    encodeLayerNorm(queue, value, good, 2, 3, 1);
    queue.commit();
    queue.finish();
    assertThat(rig.readFloats(y, 6)).containsOnly(1);
    for (long buffer : new long[] {x, row, y}) {
      driver.destroyBuffer(buffer); // none is held by a refused one
    }
  }

  static Stream<Integer> rowLengths() {
    return Stream.of(1, 2, 7, 8, 16, 33, 64, 257);
  }

  @Test
  void binary16IsRoundedToNearestAndTiesToEven() {
    float[] values = {
      1,
      1 + 0x1p-11f,
      1 + 3 * 0x1p-11f,
      65504,
      65519.9f,
      65520,
      -1e9f,
      0x1p-24f,
      0x1p-25f,
      0x1.8p-25f,
      0x1p-14f,
      0x1.ffcp-15f,
      0x1.ffep-15f,
      0x1.fffp-15f,
      -0f,
      INF,
      NAN,
      0.1f,
      -3.14159f,
      2049
    };
    Nodes g = new Nodes();
    int half = g.cast(g.input(values.length), ElementType.F16);
    GraphSpec graph = g.output(g.cast(half, ElementType.F32)).spec();
    float[] expected = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      expected[i] = Float.float16ToFloat(Float.floatToFloat16(values[i]));
    }
    assertThat(rig.run(graph, values.length, values)).containsExactly(expected);
  }

  @Test
  void everyBinary16IsReadAndWritten() {
    int count = 1 << 16;
    Nodes g = new Nodes();
    int x = g.half(count);
    int wide = g.cast(x, ElementType.F32);
    int same = g.reshape(x, (long) count, 1L);
    long executable = driver.compile(g.output(wide).output(same).spec());
    long in = driver.createBuffer(2L * count);
    ByteBuffer patterns = driver.contents(in, 0, 2 * count);
    for (int i = 0; i < count; i++) {
      patterns.putShort(2 * i, (short) i);
    }
    long out = driver.createBuffer(4L * count);
    long copy = driver.createBuffer(2L * count);
    Rig.Queue queue = rig.queue();
    queue.submit(
        value ->
            driver.encodeExecutable(
                queue.handle, value, executable, rig.arguments(in, out, copy), 3));
    queue.finish();
    float[] results = rig.readFloats(out, count);
    ByteBuffer copied = driver.contents(copy, 0, 2 * count);
    for (int i = 0; i < count; i++) {
      float expected = Float.float16ToFloat((short) i);
      if (Float.isNaN(expected)) {
        assertThat(results[i]).as("pattern %04x", i).isNaN();
      } else {
        assertThat(results[i]).as("pattern %04x", i).isEqualTo(expected);
        assertThat(copied.getShort(2 * i)).isEqualTo((short) i);
      }
    }
  }

  @Test
  void constantsAreCopied() {
    ByteBuffer bytes = ByteBuffer.allocate(8).order(ByteOrder.nativeOrder());
    bytes.putFloat(0, 1).putFloat(4, 2);
    ConstantData data = ConstantData.copyOf(bytes);
    bytes.putFloat(0, 9);
    GraphSpec graph =
        new GraphSpec(
            List.of(
                new NodeSpec.Input(ElementType.F32, List.of(2L)),
                new NodeSpec.Constant(ElementType.F32, List.of(2L), data),
                new NodeSpec.Binary(BinaryOperation.ADD, 0, 1)),
            List.of(2));
    assertThat(rig.run(graph, 2, new float[] {10, 20})).containsExactly(11, 22);
    refused(
        Status.INVALID_ARGUMENT,
        () ->
            driver.compile(
                new GraphSpec(
                    List.of(
                        new NodeSpec.Constant(ElementType.F32, List.of(3L), data),
                        new NodeSpec.Unary(UnaryOperation.RELU, 0)),
                    List.of(1))));
  }

  @ParameterizedTest
  @MethodSource("invalidGraphs")
  void thatIsWrongIsRefused(GraphSpec graph) {
    Assertions.assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> driver.compile(graph))
        .satisfies(refusal -> assertThat(refusal.status()).isEqualTo(Status.INVALID_ARGUMENT));
    driver.destroyExecutable(driver.compile(relu()));
  }

  private static float[] values(int count, Random random) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat() * 2 - 1;
    }
    return values;
  }

  private static GraphSpec unary(UnaryOperation operation, int count) {
    Nodes g = new Nodes();
    return g.output(g.unary(operation, g.input(count))).spec();
  }

  /** A graph whose output is the node that is given back. */
  private static ArgumentSet graph(String name, ToIntFunction<Nodes> description) {
    Nodes g = new Nodes();
    int output = description.applyAsInt(g);
    return argumentSet(name, g.output(output).spec());
  }

  static List<ArgumentSet> graphs() {
    List<ArgumentSet> graphs = new ArrayList<>();
    for (BinaryOperation operation : BinaryOperation.values()) {
      // Divisors are 2 to 4, far from 0.
      graphs.add(
          graph(
              operation + " of equals",
              g -> g.binary(operation, g.input(3, 21), offset(g, 3, g.input(3, 21)))));
      graphs.add(
          graph(
              operation + " with a row",
              g -> g.binary(operation, g.input(3, 21), offset(g, 3, g.input(21)))));
      graphs.add(
          graph(
              operation + " of a row",
              g -> g.binary(operation, g.input(21), offset(g, 3, g.input(3, 21)))));
      graphs.add(
          graph(
              operation + " with a column",
              g -> g.binary(operation, g.input(2, 3, 5), offset(g, 3, g.input(3, 1)))));
      graphs.add(
          graph(
              operation + " of a number",
              g -> g.binary(operation, g.input(), offset(g, 3, g.input(3, 5)))));
      graphs.add(
          graph(
              operation + " of numbers",
              g -> g.binary(operation, g.input(1, 1), offset(g, 3, g.input()))));
    }
    for (UnaryOperation operation : UnaryOperation.values()) {
      graphs.add(graph(operation + "", g -> g.unary(operation, g.input(3, 19))));
      graphs.add(
          graph(
              operation + " in place",
              g -> g.unary(operation, g.sum(g.input(3, 19), g.input(19)))));
    }
    for (long columns : new long[] {1, 2, 8, 16, 19, 64}) {
      graphs.add(graph("softmax of " + columns, g -> g.softmax(g.input(2, 3, columns))));
      graphs.add(
          graph(
              "layer norm of " + columns,
              g -> g.layerNorm(g.input(2, 3, columns), g.input(columns), g.input(columns), 1e-3f)));
    }
    graphs.add(graph("softmax of one row", g -> g.softmax(g.input(5))));
    graphs.add(graph("softmax in place", g -> g.softmax(g.sum(g.input(3, 9), g.input(9)))));
    for (boolean keep : new boolean[] {false, true}) {
      graphs.add(graph("mean over the first " + keep, g -> g.mean(g.input(3, 4, 5), keep, 0)));
      graphs.add(graph("mean over the middle " + keep, g -> g.mean(g.input(3, 4, 5), keep, 1)));
      graphs.add(graph("mean over the last " + keep, g -> g.mean(g.input(3, 4, 5), keep, 2)));
      graphs.add(graph("mean over the outer " + keep, g -> g.mean(g.input(3, 4, 5), keep, 2, 0)));
      graphs.add(graph("mean over all " + keep, g -> g.mean(g.input(3, 4, 5), keep, 0, 1, 2)));
      graphs.add(
          graph(
              "mean over some of many " + keep,
              g -> g.mean(g.input(2, 3, 1, 4, 2, 3), keep, 1, 4)));
    }
    graphs.add(graph("mean of wide rows", g -> g.mean(g.input(3, 300), false, 0)));
    graphs.add(graph("reshape of an input", g -> g.reshape(g.input(3, 4), 2L, 6L)));
    graphs.add(graph("reshape to no dims", g -> g.reshape(g.input(1, 1))));
    graphs.add(graph("reshape of a result", g -> g.reshape(g.relu(g.input(3, 4)), 12L)));
    graphs.add(graph("reshape, then relu", g -> g.relu(g.reshape(g.input(3, 4), 2L, 6L))));
    graphs.add(graph("transpose", g -> g.transpose(g.input(3, 4), 1, 0)));
    graphs.add(graph("transpose of many", g -> g.transpose(g.input(2, 3, 4, 5), 2, 0, 3, 1)));
    graphs.add(graph("transpose of rows", g -> g.transpose(g.input(2, 3, 4, 5), 2, 0, 1, 3)));
    graphs.add(graph("transpose, then relu", g -> g.relu(g.transpose(g.input(3, 4), 1, 0))));
    graphs.add(
        graph(
            "transpose, then reshape",
            g -> g.relu(g.reshape(g.transpose(g.input(2, 3, 4), 1, 0, 2), 3L, 8L))));
    graphs.add(
        graph(
            "transpose, then sum",
            g -> g.sum(g.transpose(g.input(3, 4, 5), 1, 0, 2), g.transpose(g.input(5, 3), 1, 0))));
    graphs.add(
        graph("transpose twice", g -> g.transpose(g.relu(g.transpose(g.input(3, 4), 1, 0)), 1, 0)));
    graphs.add(graph("slice", g -> g.slice(g.input(4, 5), List.of(1L, 2L), List.of(3L, 5L))));
    graphs.add(
        graph(
            "softmax of a slice",
            g -> g.softmax(g.slice(g.input(4, 5), List.of(1L, 2L), List.of(3L, 5L)))));
    graphs.add(
        graph(
            "slice of rows, in place",
            g -> g.relu(g.slice(g.relu(g.input(4, 5)), List.of(1L, 0L), List.of(3L, 5L)))));
    graphs.add(
        graph(
            "two slices of one result",
            g -> {
              int x = g.relu(g.input(4, 6));
              return g.sum(
                  g.relu(g.slice(x, List.of(0L, 0L), List.of(4L, 3L))),
                  g.slice(x, List.of(0L, 3L), List.of(4L, 6L)));
            }));
    graphs.add(graph("concat", g -> g.concat(1, g.input(2, 3), g.input(2, 1), g.input(2, 4))));
    graphs.add(
        graph(
            "concat of views",
            g -> {
              int x = g.relu(g.input(3, 4));
              return g.concat(0, g.transpose(x, 1, 0), g.transpose(x, 1, 0), g.input(1, 3));
            }));
    graphs.add(graph("concat of one", g -> g.relu(g.concat(0, g.input(3)))));
    for (int flags = 0; flags < 4; flags++) {
      boolean ta = (flags & 1) != 0;
      boolean tb = (flags & 2) != 0;
      String which = " " + ta + " " + tb;
      long[] a = ta ? new long[] {5, 3} : new long[] {3, 5};
      long[] b = tb ? new long[] {4, 5} : new long[] {5, 4};
      long[] as = ta ? new long[] {2, 5, 3} : new long[] {2, 3, 5};
      long[] bs = tb ? new long[] {2, 4, 5} : new long[] {2, 5, 4};
      graphs.add(graph("matmul" + which, g -> g.matmul(g.input(a), ta, g.input(b), tb)));
      graphs.add(graph("matmuls" + which, g -> g.matmul(g.input(as), ta, g.input(bs), tb)));
      graphs.add(graph("matmuls, one b" + which, g -> g.matmul(g.input(as), ta, g.input(b), tb)));
      graphs.add(
          graph(
              "matmul of transposed" + which,
              g ->
                  g.matmul(
                      g.transpose(g.input(a[1], a[0]), 1, 0),
                      ta,
                      g.transpose(g.input(b[1], b[0]), 1, 0),
                      tb)));
      graphs.add(
          graph(
              "matmul of slices" + which,
              g ->
                  g.matmul(
                      g.slice(g.input(2, 5, 5), List.of(0L, 1L, 2L), List.of(2L, 4L, 5L)),
                      false,
                      g.slice(
                          g.input(6, 6), List.of(1L, 1L), tb ? List.of(5L, 4L) : List.of(4L, 5L)),
                      tb)));
      graphs.add(
          graph(
              "matmul with a constant" + which,
              g -> {
                int c = g.constant(values(20, new Random(3)), b);
                return g.sum(
                    g.matmul(g.input(as), ta, c, tb), g.constant(new float[] {1, 2, 3, 4}, 4));
              }));
    }
    graphs.add(
        graph(
            "matmul of every second column",
            g -> {
              int x = g.reshape(g.input(4, 6), 4L, 3L, 2L);
              int even = g.reshape(g.slice(x, List.of(0L, 0L, 0L), List.of(4L, 3L, 1L)), 4L, 3L);
              return g.matmul(even, g.input(3, 2));
            }));
    graphs.add(
        graph(
            "a linear layer whose bias has more dimensions",
            g -> g.sum(g.matmul(g.input(3, 4), g.input(4, 5)), g.input(1, 1, 5))));
    graphs.add(
        graph(
            "matmul, then transpose",
            g -> g.transpose(g.matmul(g.input(2, 3, 4), g.input(2, 4, 5)), 1, 0, 2)));
    graphs.add(
        graph(
            "matmul, then transpose and relu",
            g -> g.relu(g.transpose(g.matmul(g.input(2, 3, 4), g.input(4, 5)), 1, 0, 2))));
    graphs.add(graph("attention", g -> attention(g, 2, 3, 4, 5)));
    graphs.add(
        graph(
            "binary16 through a product",
            g -> g.cast(g.matmul(g.half(3, 5), g.softmax(g.half(5, 4))), ElementType.F32)));
    graphs.add(
        graph(
            "a cast of a view",
            g -> g.relu(g.cast(g.transpose(g.half(3, 5), 1, 0), ElementType.F32))));
    return graphs;
  }

  private static int offset(Nodes g, float by, int a) {
    return g.sum(a, g.constant(new float[] {by}));
  }

  /** From the packed projection to what goes into the last one. */
  private static int attention(Nodes g, long batch, long tokens, long heads, long width) {
    long all = heads * width;
    int x = g.input(batch, tokens, all);
    int packed = g.sum(g.matmulTransposed(x, g.input(3 * all, all)), g.input(3 * all));
    int[] parts = new int[3];
    for (int i = 0; i < 3; i++) {
      int part = g.slice(packed, List.of(0L, 0L, i * all), List.of(batch, tokens, (i + 1) * all));
      parts[i] = g.transpose(g.reshape(part, batch, tokens, heads, width), 0, 2, 1, 3);
    }
    int scores =
        g.binary(
            BinaryOperation.MULTIPLY,
            g.matmulTransposed(parts[0], parts[1]),
            g.constant(new float[] {0.4f}));
    int seen = g.matmul(g.softmax(scores), parts[2]);
    return g.relu(g.reshape(g.transpose(seen, 0, 2, 1, 3), batch, tokens, all));
  }

  static List<ArgumentSet> invalidGraphs() {
    List<Long> one = List.of(1L);
    return List.of(
        graph("mixed types", g -> g.sum(g.input(3), g.half(3))),
        graph(
            "inner dimensions, a transposed",
            g -> g.matmul(g.input(3, 5), true, g.input(5, 4), false)),
        graph("softmax of a number", g -> g.softmax(g.input())),
        graph("layer norm of a number", g -> g.layerNorm(g.input(), g.input(1), g.input(1), 1)),
        graph("gamma", g -> g.layerNorm(g.input(2, 3), g.input(2), g.input(3), 1)),
        graph("beta", g -> g.layerNorm(g.input(2, 3), g.input(3), g.input(1, 3), 1)),
        graph("negative eps", g -> g.layerNorm(g.input(3), g.input(3), g.input(3), -1)),
        graph("eps that is no number", g -> g.layerNorm(g.input(3), g.input(3), g.input(3), NAN)),
        graph("infinite eps", g -> g.layerNorm(g.input(3), g.input(3), g.input(3), INF)),
        graph("mean over nothing", g -> g.mean(g.input(3), false)),
        graph("mean over an axis twice", g -> g.mean(g.input(3), false, 0, 0)),
        graph("mean over no such axis", g -> g.mean(g.input(3), false, 1)),
        graph("mean over a negative axis", g -> g.mean(g.input(3), false, -1)),
        graph("reshape to more", g -> g.reshape(g.input(3), 2L, 2L)),
        graph("reshape to zero", g -> g.reshape(g.input(3), 3L, 0L)),
        graph("reshape to minus", g -> g.reshape(g.input(4), -2L, -2L)),
        graph("reshape that wraps", g -> g.reshape(g.input(1), 1L << 32, 1L << 32)),
        graph("short permutation", g -> g.transpose(g.input(3, 4), 0)),
        graph("permutation that repeats", g -> g.transpose(g.input(3, 4), 0, 0)),
        graph("permutation beyond", g -> g.transpose(g.input(3, 4), 0, 2)),
        graph("negative permutation", g -> g.transpose(g.input(3, 4), 0, -1)),
        graph("concat of nothing", g -> g.concat(0)),
        graph("concat along no such axis", g -> g.concat(1, g.input(3), g.input(3))),
        graph("concat of other ranks", g -> g.concat(0, g.input(3), g.input(3, 1))),
        graph("concat of other dims", g -> g.concat(0, g.input(3, 2), g.input(3, 1))),
        graph("concat of other types", g -> g.concat(0, g.input(3), g.half(3))),
        graph(
            "concat that overflows",
            g -> g.concat(0, g.input(1L << 60), g.input(1L << 60), g.input(1L << 60))),
        graph("slice of a number", g -> g.slice(g.input(), List.of(), List.of())),
        graph("empty slice", g -> g.slice(g.input(3), one, one)),
        graph("slice beyond", g -> g.slice(g.input(3), one, List.of(4L))),
        graph("slice from below", g -> g.slice(g.input(3), List.of(-1L), List.of(2L))),
        graph("slice of fewer axes", g -> g.slice(g.input(3, 3), one, List.of(2L))),
        graph("slice without an end", g -> g.slice(g.input(3), one, List.of())),
        graph("a constant as output", g -> g.constant(new float[] {1}, 1)),
        graph("no such operand of concat", g -> g.concat(0, g.input(3), 7)),
        graph("no such gamma", g -> g.layerNorm(g.input(3), 9, g.input(3), 1)));
  }
}
