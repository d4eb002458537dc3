package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Graphs know every shape before a device sees them. */
class GraphTest {

  @Test
  void knowTheirInputsAndOutputs() {
    Graph graph = CoreTest.layer(32, 64, 10);
    assertThat(graph.inputs()).extracting(Node::name).containsExactly("x", "w", "b");
    assertThat(graph.inputs().get(1).shape()).containsExactly(10, 64);
    assertThat(graph.outputs()).hasSize(1);
    assertThat(graph.outputs().getFirst().shape()).containsExactly(32, 10);
    assertThat(graph.outputs().getFirst().type()).isEqualTo(DType.F32);
    assertThat(graph.outputNames()).containsExactly("y");
  }

  @Test
  void inferShapes() {
    Graph.build(
        g -> {
          Node a = g.input("a", DType.F32, 2, 3, 4, 5);
          assertThat(g.matmul(a, g.input("b", DType.F32, 5, 6)).shape())
              .containsExactly(2, 3, 4, 6);
          assertThat(g.matmul(a, g.input("c", DType.F32, 2, 3, 5, 6)).shape())
              .containsExactly(2, 3, 4, 6);
          assertThat(g.matmulTransposed(a, g.input("d", DType.F32, 7, 5)).shape())
              .containsExactly(2, 3, 4, 7);
          assertThat(g.add(a, g.input("e", DType.F32, 3, 1, 5)).shape())
              .containsExactly(2, 3, 4, 5);
          assertThat(g.add(g.input("f", DType.F32), g.input("h", DType.F32, 1, 8)).shape())
              .containsExactly(1, 8);
          Node w = g.input("w", DType.F32, 9, 5);
          assertThat(g.linear(a, w).shape()).containsExactly(2, 3, 4, 9);
          Node out = g.relu(g.linear(a, w, g.input("bias", DType.F32, 9)));
          assertThat(out.shape()).containsExactly(2, 3, 4, 9);
          g.output("out", out);
        });
  }

  @Test
  void cannotBeChangedThroughWhatTheyGive() {
    Graph graph = CoreTest.layer(2, 3, 4);
    graph.inputs().getFirst().shape()[0] = 99;
    assertThat(graph.inputs().getFirst().shape()).containsExactly(2, 3);
    assertThatExceptionOfType(UnsupportedOperationException.class)
        .isThrownBy(() -> graph.inputs().clear());
    assertThatExceptionOfType(UnsupportedOperationException.class)
        .isThrownBy(() -> graph.outputs().clear());
  }

  @ParameterizedTest
  @MethodSource
  void mismatchesNameTheOperationAndBothShapes(Consumer<GraphBuilder> wrong, String[] parts) {
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> Graph.build(wrong))
        .satisfies(refusal -> assertThat(refusal.getMessage()).contains(parts));
  }

  private static Arguments wrong(Consumer<GraphBuilder> wrong, String... parts) {
    return Arguments.of(wrong, parts);
  }

  static Stream<Arguments> mismatchesNameTheOperationAndBothShapes() {
    return Stream.of(
        wrong(
            g -> g.matmul(g.input("a", DType.F32, 3, 5), g.input("b", DType.F32, 4, 6)),
            "matmul#2",
            "a [3, 5]",
            "b [4, 6]"),
        wrong(
            g -> g.matmul(g.input("a", DType.F32, 5), g.input("b", DType.F32, 5, 6)),
            "matmul",
            "a [5]",
            "b [5, 6]"),
        wrong(
            g -> g.matmul(g.input("a", DType.F32, 2, 3, 5), g.input("b", DType.F32, 3, 5, 6)),
            "matmul",
            "[2, 3, 5]",
            "[3, 5, 6]"),
        wrong(
            g -> g.matmulTransposed(g.input("a", DType.F32, 3, 5), g.input("b", DType.F32, 5, 6)),
            "matmulTransposed",
            "[3, 5]",
            "[5, 6]"),
        wrong(
            g -> g.add(g.input("a", DType.F32, 3, 5), g.input("b", DType.F32, 3)),
            "add",
            "a [3, 5]",
            "b [3]"),
        wrong(
            g -> g.linear(g.input("x", DType.F32, 3, 5), g.input("w", DType.F32, 5, 4)),
            "linear",
            "x [3, 5]",
            "w [5, 4]"),
        wrong(
            g ->
                g.linear(
                    g.input("x", DType.F32, 3, 5),
                    g.input("w", DType.F32, 4, 5),
                    g.input("b", DType.F32, 5)),
            "linear",
            "w [4, 5]",
            "b [5]"),
        wrong(
            g -> {
              g.input("x", DType.F32, 1);
              g.input("x", DType.F32, 1);
            },
            "'x' already"),
        wrong(g -> g.input("x", DType.F32, 3, 0), "[3, 0]"),
        wrong(g -> g.input("x", DType.F32, -1), "[-1]"),
        wrong(g -> g.input("x", DType.F32, 1, 1, 1, 1, 1, 1, 1, 1, 1), "8 dimensions"),
        wrong(g -> g.input("x", DType.F32, 1L << 32, 1L << 32), "too many"),
        wrong(
            g -> g.add(g.input("a", DType.F32, 1L << 30, 1), g.input("b", DType.F32, 1, 1L << 30)),
            "too many"),
        wrong(g -> g.output("y", g.input("x", DType.F32, 1)), "input", "x"),
        wrong(
            g -> {
              Node y = g.relu(g.input("x", DType.F32, 1));
              g.output("y", y);
              g.output("z", y);
            },
            "output already"),
        wrong(
            g -> {
              Node x = g.input("x", DType.F32, 1);
              g.output("y", g.relu(x));
              g.output("y", g.relu(x));
            },
            "'y' already"));
  }

  @Test
  void takeNoNodesOfOthers() {
    AtomicReference<Node> foreign = new AtomicReference<>();
    Graph.build(
        g -> {
          foreign.set(g.input("x", DType.F32, 1));
          g.output("y", g.relu(foreign.get()));
        });
    for (Consumer<GraphBuilder> use :
        java.util.List.<Consumer<GraphBuilder>>of(
            g -> g.relu(foreign.get()),
            g -> g.add(g.input("a", DType.F32, 1), foreign.get()),
            g -> g.output("y", foreign.get()))) {
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> Graph.build(use))
          .withMessageContaining("another graph");
    }
  }

  @Test
  void haveAnOutput() {
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(() -> Graph.build(g -> g.relu(g.input("x", DType.F32, 1))))
        .withMessageContaining("no output");
  }

  @Test
  void areFinishedWhenBuilt() {
    AtomicReference<GraphBuilder> kept = new AtomicReference<>();
    AtomicReference<Node> node = new AtomicReference<>();
    Graph graph =
        Graph.build(
            g -> {
              kept.set(g);
              node.set(g.relu(g.input("x", DType.F32, 1)));
              g.output("y", node.get());
            });
    GraphBuilder late = kept.get();
    for (Runnable use :
        java.util.List.<Runnable>of(
            () -> late.input("z", DType.F32, 1),
            () -> late.relu(node.get()),
            () -> late.add(node.get(), node.get()),
            () -> late.output("z", late.relu(node.get())),
            () -> late.output("y", node.get()))) {
      assertThatExceptionOfType(IllegalStateException.class).isThrownBy(use::run);
    }
    assertThat(graph.outputs()).hasSize(1);
    assertThat(graph.inputs()).hasSize(1);
  }
}
