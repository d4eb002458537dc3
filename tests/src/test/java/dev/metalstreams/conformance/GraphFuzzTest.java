package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.fail;
import static org.assertj.core.api.Assertions.within;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.GraphBuilder;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import dev.metalstreams.driver.ConstantData;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.function.BiFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Random graphs, node by node: a node that the scripted driver's shape rules refuse must be refused
 * as it is added, with a message that names the operation, and every other be taken. What was built
 * must give what the reference gives, for every one of its outputs; and a reference that computes
 * something slightly else must be noticed.
 */
@Timeout(300)
class GraphFuzzTest {
  private static final int GRAPHS = 150;
  private static final int NODES = 14;
  private static final int MOST_ELEMENTS = 120;

  /** Nodes whose results may be further off than this, because of binary16, are left out. */
  private static final double MOST_ERROR = 0.02;

  /** What rounding to binary16 may change, in parts of the greatest size: one step either way. */
  private static final double HALF_STEP = 0x1p-10;

  private static final List<NodeSpec.BinaryOperation> SUMS_AND_PRODUCTS =
      List.of(
          NodeSpec.BinaryOperation.ADD,
          NodeSpec.BinaryOperation.SUBTRACT,
          NodeSpec.BinaryOperation.MULTIPLY);
  private static final List<NodeSpec.UnaryOperation> FUNCTIONS =
      List.of(NodeSpec.UnaryOperation.values());

  /** Beyond this bound values are brought back to below 1, so that rounding stays small. */
  private static final double LARGE = 12;

  private final Device device =
      Device.builder().backend(Drivers.backend()).mathLibrary("builtin").workers(1).open();
  private final Driver rules = new ScriptedSubject(false).open();

  /** A graph that grows, twice: as the library builds it, and as a list of nodes. */
  private final class Growing {
    final Random random;
    final GraphBuilder builder;
    final List<NodeSpec> specs = new ArrayList<>();
    final List<Node> nodes = new ArrayList<>();
    final List<Double> bounds = new ArrayList<>();
    final List<Double> errors = new ArrayList<>();
    int refused;

    Growing(long seed, GraphBuilder builder) {
      this.random = new Random(seed);
      this.builder = builder;
    }

    /**
     * Adds a node if the rules allow it; the greatest size that its elements can have is known.
     * False if it was refused, or was left out.
     */
    boolean add(NodeSpec spec, double bound) {
      List<NodeSpec> longer = new ArrayList<>(specs);
      longer.add(spec);
      longer.add(new NodeSpec.Cast(specs.size(), ElementType.F32)); // anything can be cast
      try {
        long executable = rules.compile(new GraphSpec(longer, List.of(longer.size() - 1)));
        rules.destroyExecutable(executable);
      } catch (DriverException e) {
        assertThatExceptionOfType(IllegalArgumentException.class)
            .as("%s, after %s", spec, nodes)
            .isThrownBy(() -> apply(builder, spec, nodes))
            .satisfies(refusal -> assertThat(refusal.getMessage()).isNotBlank());
        refused++;
        return false;
      }
      double error = error(spec) + (type(spec) == ElementType.F16 ? bound * HALF_STEP : 0);
      if (error > MOST_ERROR) {
        return false;
      }
      Node node = apply(builder, spec, nodes);
      specs.add(spec);
      nodes.add(node);
      bounds.add(bound);
      errors.add(error);
      if (bound > LARGE) {
        return add(new NodeSpec.Unary(NodeSpec.UnaryOperation.TANH, nodes.size() - 1), 1);
      }
      return true;
    }

    ElementType type(NodeSpec spec) {
      if (spec instanceof NodeSpec.Input input) {
        return input.type();
      } else if (spec instanceof NodeSpec.Constant constant) {
        return constant.type();
      } else if (spec instanceof NodeSpec.Cast cast) {
        return cast.type();
      }
      return type(operands(spec).getFirst());
    }

    ElementType type(int node) {
      return nodes.get(node).type() == DType.F16 ? ElementType.F16 : ElementType.F32;
    }

    /** How far off results may be because their operands are: by the steepest slope there is. */
    private double error(NodeSpec spec) {
      double all = operands(spec).stream().mapToDouble(errors::get).max().orElse(0);
      if (spec instanceof NodeSpec.MatMul matmul) {
        int inner = 5; // at most
        return inner * product(matmul.a(), matmul.b());
      } else if (spec instanceof NodeSpec.Binary binary) {
        return switch (binary.operation()) {
          case ADD, SUBTRACT -> errors.get(binary.a()) + errors.get(binary.b());
          case MULTIPLY -> product(binary.a(), binary.b());
          case DIVIDE -> (errors.get(binary.a()) + bounds.get(binary.a()) * 2 * all) * 2;
        };
      } else if (spec instanceof NodeSpec.Unary) {
        return 1.2 * all;
      } else if (spec instanceof NodeSpec.Softmax) {
        return 2 * all;
      } else if (spec instanceof NodeSpec.LayerNorm norm) {
        return 20 * all * Math.max(1, bounds.get(norm.gamma()));
      }
      return all;
    }

    private double product(int a, int b) {
      return bounds.get(a) * errors.get(b) + bounds.get(b) * errors.get(a);
    }

    /** A node to work on; late ones more often, for depth. */
    int any() {
      return Math.max(random.nextInt(nodes.size()), random.nextInt(nodes.size()));
    }

    long[] shape() {
      long[] shape = new long[random.nextInt(5)];
      Arrays.setAll(shape, i -> 1L + random.nextInt(4));
      return shape;
    }

    /** A shape that suits as the other operand of a node: mostly right. */
    long[] partner(long[] shape) {
      long[] partner = shape.clone();
      if (partner.length > 0 && random.nextInt(3) == 0) {
        partner[random.nextInt(partner.length)] = 1;
      }
      if (random.nextInt(3) == 0) {
        partner = Arrays.copyOfRange(partner, random.nextInt(partner.length + 1), partner.length);
      }
      if (partner.length > 0 && random.nextInt(10) == 0) {
        partner[random.nextInt(partner.length)]++;
      }
      return partner;
    }

    int given(long[] shape) {
      return given(shape, random.nextInt(6) == 0 ? ElementType.F16 : ElementType.F32);
    }

    /** Something to go with a node: mostly of its type. */
    int given(long[] shape, int with) {
      return random.nextInt(20) == 0 ? given(shape) : given(shape, type(with));
    }

    int given(long[] shape, ElementType type) {
      List<Long> dims = Arrays.stream(shape).boxed().toList();
      if (random.nextBoolean()) {
        add(new NodeSpec.Input(type, dims), 1);
        return nodes.size() - 1;
      }
      float[] values = new float[(int) elements(shape)];
      for (int i = 0; i < values.length; i++) {
        values[i] = random.nextFloat() * 2 - 1;
      }
      return constant(type, dims, values, 1);
    }

    int constant(ElementType type, List<Long> dims, float[] values, double bound) {
      ByteBuffer bytes =
          ByteBuffer.allocate(type.bytes() * values.length).order(ByteOrder.nativeOrder());
      for (int i = 0; i < values.length; i++) {
        if (type == ElementType.F16) {
          bytes.putShort(2 * i, Float.floatToFloat16(values[i]));
        } else {
          bytes.putFloat(4 * i, values[i]);
        }
      }
      add(new NodeSpec.Constant(type, dims, ConstantData.copyOf(bytes)), bound);
      return nodes.size() - 1;
    }

    void grow() {
      given(shape());
      while (nodes.size() < NODES) {
        int a = any();
        long[] shape = nodes.get(a).shape();
        double bound = bounds.get(a);
        switch (random.nextInt(14)) {
          case 0 -> given(shape());
          case 1, 2 -> growBinary(a, shape, bound);
          case 3 -> growUnary(a, bound);
          case 4, 5 -> growProduct(a, shape, bound);
          case 6 -> add(new NodeSpec.Softmax(a), 1);
          case 7 -> {
            long[] row = shape.length == 0 ? shape : new long[] {shape[shape.length - 1]};
            int gamma = given(random.nextInt(8) == 0 ? partner(shape) : row, a);
            int beta = given(row, a);
            add(new NodeSpec.LayerNorm(a, gamma, beta, 0.1f), 3);
          }
          case 8 -> {
            List<Integer> axes =
                random
                    .ints(
                        1 + random.nextInt(2), 0, Math.max(1, shape.length + random.nextInt(8) / 7))
                    .boxed()
                    .toList();
            add(new NodeSpec.Mean(a, axes, random.nextBoolean()), bound);
          }
          case 9 -> growRearranged(a, shape, bound);
          case 10 -> {
            List<Integer> permutation =
                new ArrayList<>(IntStream.range(0, shape.length).boxed().toList());
            Collections.shuffle(permutation, random);
            if (!permutation.isEmpty() && random.nextInt(10) == 0) {
              permutation.set(0, random.nextInt(shape.length + 1));
            }
            add(new NodeSpec.Transpose(a, permutation), bound);
          }
          case 11 -> growQuotient(a, shape, bound);
          case 12 -> {
            ElementType type = random.nextInt(3) == 0 ? ElementType.F16 : ElementType.F32;
            add(new NodeSpec.Cast(a, type), bound);
          }
          default -> growConcat(a, shape, bound);
        }
      }
    }

    private void growBinary(int a, long[] shape, double bound) {
      int b = random.nextBoolean() ? any() : given(partner(shape), a);
      int other = nodes.size() > b ? b : a;
      NodeSpec.BinaryOperation operation =
          SUMS_AND_PRODUCTS.get(random.nextInt(SUMS_AND_PRODUCTS.size()));
      boolean product = operation == NodeSpec.BinaryOperation.MULTIPLY;
      double all = product ? bound * bounds.get(other) : bound + bounds.get(other);
      if (elements(shape) * elements(nodes.get(other).shape()) <= MOST_ELEMENTS * 4) {
        add(
            random.nextBoolean()
                ? new NodeSpec.Binary(operation, a, other)
                : new NodeSpec.Binary(operation, other, a),
            all);
      }
    }

    /** By something between 1/2 and 5/2. */
    private void growQuotient(int a, long[] shape, double bound) {
      int b = given(partner(shape), a);
      int shift = constant(type(b), List.of(), new float[] {1.5f}, 1.5);
      if (elements(shape) * elements(nodes.get(b).shape()) <= MOST_ELEMENTS * 4
          && add(new NodeSpec.Binary(NodeSpec.BinaryOperation.ADD, b, shift), 2.5)) {
        add(new NodeSpec.Binary(NodeSpec.BinaryOperation.DIVIDE, a, nodes.size() - 1), 2 * bound);
      }
    }

    private void growUnary(int a, double bound) {
      NodeSpec.UnaryOperation operation = FUNCTIONS.get(random.nextInt(FUNCTIONS.size()));
      boolean squashes =
          operation == NodeSpec.UnaryOperation.TANH || operation == NodeSpec.UnaryOperation.SIGMOID;
      add(new NodeSpec.Unary(operation, a), squashes ? 1 : bound);
    }

    private void growProduct(int a, long[] shape, double bound) {
      boolean transposeA = random.nextBoolean();
      boolean transposeB = random.nextBoolean();
      long[] right = shape.clone();
      if (shape.length >= 2) {
        long inner = shape[shape.length - (transposeA ? 2 : 1)];
        long columns = 1L + random.nextInt(4);
        right[right.length - 2] = transposeB ? columns : inner;
        right[right.length - 1] = transposeB ? inner : columns;
        if (random.nextBoolean()) {
          right = Arrays.copyOfRange(right, right.length - 2, right.length);
        }
      }
      int b = given(random.nextInt(6) == 0 ? partner(right) : right, a);
      add(new NodeSpec.MatMul(a, b, transposeA, transposeB), bound * bounds.get(b) * 5);
    }

    private void growRearranged(int a, long[] shape, double bound) {
      if (random.nextBoolean()) {
        List<Long> starts = new ArrayList<>();
        List<Long> ends = new ArrayList<>();
        for (long dim : shape) {
          long start = random.nextInt((int) dim);
          starts.add(start);
          ends.add(start + 1 + random.nextInt((int) (dim - start)) + (random.nextInt(20) / 19));
        }
        add(new NodeSpec.Slice(a, starts, ends), bound);
        return;
      }
      List<Long> dims = new ArrayList<>();
      long left = elements(shape);
      for (long factor = 2; left > 1; ) {
        if (left % factor == 0) {
          dims.add(factor);
          left /= factor;
        } else {
          factor++;
        }
      }
      while (dims.size() > 1 && (dims.size() > 5 || random.nextBoolean())) {
        int at = random.nextInt(dims.size() - 1);
        dims.set(at, dims.get(at) * dims.remove(at + 1));
      }
      if (random.nextInt(3) == 0) {
        dims.add(random.nextInt(dims.size() + 1), 1L);
      }
      if (random.nextInt(12) == 0) {
        dims.add(2L);
      }
      add(new NodeSpec.Reshape(a, dims), bound);
    }

    private void growConcat(int a, long[] shape, double bound) {
      int axis = random.nextInt(shape.length + (random.nextInt(10) == 0 ? 2 : 1));
      List<Integer> operands = new ArrayList<>(List.of(a));
      for (int i = random.nextInt(3); i > 0; i--) {
        long[] next = shape.clone();
        if (axis < next.length) {
          next[axis] = 1L + random.nextInt(3);
        }
        operands.add(random.nextInt(8) == 0 ? any() : given(next, a));
      }
      if (operands.stream().mapToLong(o -> elements(nodes.get(o).shape())).sum() <= MOST_ELEMENTS) {
        double all = operands.stream().mapToDouble(bounds::get).max().orElse(bound);
        add(new NodeSpec.Concat(operands, axis), all);
      }
    }
  }

  private static List<Integer> operands(NodeSpec spec) {
    if (spec instanceof NodeSpec.Cast cast) {
      return List.of(cast.a());
    } else if (spec instanceof NodeSpec.MatMul matmul) {
      return List.of(matmul.a(), matmul.b());
    } else if (spec instanceof NodeSpec.Binary binary) {
      return List.of(binary.a(), binary.b());
    } else if (spec instanceof NodeSpec.Unary unary) {
      return List.of(unary.a());
    } else if (spec instanceof NodeSpec.Softmax softmax) {
      return List.of(softmax.a());
    } else if (spec instanceof NodeSpec.LayerNorm norm) {
      return List.of(norm.a(), norm.gamma(), norm.beta());
    } else if (spec instanceof NodeSpec.Mean mean) {
      return List.of(mean.a());
    } else if (spec instanceof NodeSpec.Reshape reshape) {
      return List.of(reshape.a());
    } else if (spec instanceof NodeSpec.Transpose transpose) {
      return List.of(transpose.a());
    } else if (spec instanceof NodeSpec.Concat concat) {
      return concat.nodes();
    } else if (spec instanceof NodeSpec.Slice slice) {
      return List.of(slice.a());
    }
    return List.of();
  }

  private static long elements(long[] shape) {
    return Arrays.stream(shape).reduce(1, (a, b) -> a * b);
  }

  /** Adds a node through the public interface. */
  private static Node apply(GraphBuilder g, NodeSpec spec, List<Node> nodes) {
    if (spec instanceof NodeSpec.Input input) {
      return g.input("in" + nodes.size(), dtype(input.type()), array(input.shape()));
    } else if (spec instanceof NodeSpec.Constant constant) {
      return g.constant(
          dtype(constant.type()), Reference.floats(constant), array(constant.shape()));
    } else if (spec instanceof NodeSpec.Cast cast) {
      return g.cast(nodes.get(cast.a()), dtype(cast.type()));
    } else if (spec instanceof NodeSpec.MatMul matmul) {
      return g.matmul(
          nodes.get(matmul.a()), matmul.transposeA(), nodes.get(matmul.b()), matmul.transposeB());
    } else if (spec instanceof NodeSpec.Binary binary) {
      Node a = nodes.get(binary.a());
      Node b = nodes.get(binary.b());
      return switch (binary.operation()) {
        case ADD -> g.add(a, b);
        case SUBTRACT -> g.subtract(a, b);
        case MULTIPLY -> g.multiply(a, b);
        case DIVIDE -> g.divide(a, b);
      };
    } else if (spec instanceof NodeSpec.Unary unary) {
      Node a = nodes.get(unary.a());
      return switch (unary.operation()) {
        case RELU -> g.relu(a);
        case SIGMOID -> g.sigmoid(a);
        case TANH -> g.tanh(a);
        case GELU -> g.gelu(a);
        case GELU_TANH -> g.geluTanh(a);
      };
    } else if (spec instanceof NodeSpec.Softmax softmax) {
      return g.softmax(nodes.get(softmax.a()));
    } else if (spec instanceof NodeSpec.LayerNorm norm) {
      return g.layerNorm(
          nodes.get(norm.a()), nodes.get(norm.gamma()), nodes.get(norm.beta()), norm.eps());
    } else if (spec instanceof NodeSpec.Mean mean) {
      return g.mean(
          nodes.get(mean.a()),
          mean.keepDims(),
          mean.axes().stream().mapToInt(Integer::intValue).toArray());
    } else if (spec instanceof NodeSpec.Reshape reshape) {
      return g.reshape(nodes.get(reshape.a()), array(reshape.shape()));
    } else if (spec instanceof NodeSpec.Transpose transpose) {
      return g.transpose(
          nodes.get(transpose.a()),
          transpose.permutation().stream().mapToInt(Integer::intValue).toArray());
    } else if (spec instanceof NodeSpec.Concat concat) {
      return g.concat(concat.axis(), concat.nodes().stream().map(nodes::get).toArray(Node[]::new));
    } else if (spec instanceof NodeSpec.Slice slice) {
      return g.slice(nodes.get(slice.a()), array(slice.starts()), array(slice.ends()));
    }
    throw new AssertionError("not fuzzed: " + spec);
  }

  private static DType dtype(ElementType type) {
    return type == ElementType.F16 ? DType.F16 : DType.F32;
  }

  private static long[] array(List<Long> values) {
    return values.stream().mapToLong(Long::longValue).toArray();
  }

  /** Another graph of the same shapes, which computes something else if the node is of a kind. */
  enum Twin {
    SWAPPED_OPERANDS {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        return spec instanceof NodeSpec.Binary binary
            ? new NodeSpec.Binary(binary.operation(), binary.b(), binary.a())
            : spec;
      }
    },
    OTHER_MEAN_AXIS {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        if (spec instanceof NodeSpec.Mean mean && mean.axes().size() == 1) {
          long[] shape = nodes.get(mean.a()).shape();
          int axis = mean.axes().getFirst();
          for (int other = 0; other < shape.length; other++) {
            if (other != axis && shape[other] == shape[axis] && shape[axis] > 1) {
              return new NodeSpec.Mean(mean.a(), List.of(other), mean.keepDims());
            }
          }
        }
        return spec;
      }
    },
    SWAPPED_TRANSPOSITION {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        if (spec instanceof NodeSpec.Transpose transpose) {
          long[] shape = nodes.get(transpose.a()).shape();
          List<Integer> permutation = new ArrayList<>(transpose.permutation());
          for (int axis = 1; axis < permutation.size(); axis++) {
            if (shape[permutation.get(axis)] == shape[permutation.get(axis - 1)]) {
              Collections.swap(permutation, axis, axis - 1);
              return new NodeSpec.Transpose(transpose.a(), permutation);
            }
          }
        }
        return spec;
      }
    },
    OPERAND_NOT_TRANSPOSED {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        if (spec instanceof NodeSpec.MatMul matmul && matmul.transposeB()) {
          long[] shape = nodes.get(matmul.b()).shape();
          if (shape[shape.length - 1] == shape[shape.length - 2]) {
            return new NodeSpec.MatMul(matmul.a(), matmul.b(), matmul.transposeA(), false);
          }
        }
        return spec;
      }
    },
    SHIFTED_SLICE {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        if (spec instanceof NodeSpec.Slice slice) {
          List<Long> starts = new ArrayList<>(slice.starts());
          List<Long> ends = new ArrayList<>(slice.ends());
          for (int axis = 0; axis < starts.size(); axis++) {
            if (starts.get(axis) > 0) {
              starts.set(axis, starts.get(axis) - 1);
              ends.set(axis, ends.get(axis) - 1);
              return new NodeSpec.Slice(slice.a(), starts, ends);
            }
          }
        }
        return spec;
      }
    },
    OTHER_GELU {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        return spec instanceof NodeSpec.Unary unary
                && unary.operation() == NodeSpec.UnaryOperation.GELU
            ? new NodeSpec.Unary(NodeSpec.UnaryOperation.GELU_TANH, unary.a())
            : spec;
      }
    },
    NO_EPS {
      @Override
      NodeSpec of(NodeSpec spec, List<Node> nodes) {
        return spec instanceof NodeSpec.LayerNorm norm
            ? new NodeSpec.LayerNorm(norm.a(), norm.gamma(), norm.beta(), 1e-3f)
            : spec;
      }
    };

    abstract NodeSpec of(NodeSpec spec, List<Node> nodes);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 1000, 2000, 3000})
  void randomGraphs(long firstSeed) {
    int refused = 0;
    for (long seed = firstSeed; seed < firstSeed + GRAPHS; seed++) {
      refused += check(seed, (spec, nodes) -> spec);
    }
    assertThat(refused).as("graphs were refused, too").isGreaterThan(GRAPHS / 2);
  }

  /** The fuzzer is only worth something if it sees what is wrong. */
  @ParameterizedTest
  @EnumSource(Twin.class)
  void anotherReferenceIsNoticed(Twin twin) {
    for (long seed = 0; seed < GRAPHS; seed++) {
      try {
        check(seed, twin::of);
      } catch (AssertionError e) {
        return;
      }
    }
    fail("%s was not noticed in %d graphs", twin, GRAPHS);
  }

  @AfterEach
  void close() {
    rules.close();
    device.close();
  }

  private int check(long seed, BiFunction<NodeSpec, List<Node>, NodeSpec> reference) {
    Growing[] grown = new Growing[1];
    List<Integer> outputs = new ArrayList<>();
    Graph graph =
        Graph.build(
            g -> {
              Growing growing = new Growing(seed, g);
              grown[0] = growing;
              growing.grow();
              for (int id = growing.nodes.size() - 1; id >= 0 && outputs.size() < 3; id--) {
                NodeSpec spec = growing.specs.get(id);
                boolean computed =
                    !(spec instanceof NodeSpec.Input) && !(spec instanceof NodeSpec.Constant);
                if (computed && (outputs.isEmpty() || growing.random.nextInt(3) == 0)) {
                  outputs.add(id);
                  g.output("y" + id, growing.nodes.get(id));
                }
              }
              if (outputs.isEmpty()) {
                growing.add(new NodeSpec.Unary(NodeSpec.UnaryOperation.RELU, 0), 1);
                outputs.add(growing.nodes.size() - 1);
                g.output("y", growing.nodes.getLast());
              }
            });
    Growing growing = grown[0];
    float[][] inputs =
        graph.inputs().stream()
            .map(input -> values((int) elements(input.shape()), growing.random))
            .toArray(float[][]::new);
    List<Tensor> tensors = new ArrayList<>();
    for (int i = 0; i < inputs.length; i++) {
      Node input = graph.inputs().get(i);
      tensors.add(device.tensor(input.type(), inputs[i], input.shape()));
    }
    List<NodeSpec> specs =
        growing.specs.stream().map(spec -> reference.apply(spec, growing.nodes)).toList();
    List<float[]> results;
    try (Executable executable = device.compile(graph)) {
      List<Tensor> computed = executable.runAll(tensors.toArray(Tensor[]::new));
      results = computed.stream().map(Tensor::toFloats).toList();
      computed.forEach(Tensor::close);
      tensors.forEach(Tensor::close);
    }
    for (int i = 0; i < outputs.size(); i++) {
      float[] expected = Reference.evaluate(new GraphSpec(specs, List.of(outputs.get(i))), inputs);
      assertThat(results.get(i))
          .as("seed %d, node %d of %s", seed, outputs.get(i), growing.specs)
          .containsExactly(
              expected, within(2e-4f + growing.errors.get(outputs.get(i)).floatValue()));
    }
    return growing.refused;
  }

  private static float[] values(int count, Random random) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat() * 2 - 1;
    }
    return values;
  }
}
