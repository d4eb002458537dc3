package dev.metalstreams.driver;

import java.util.List;

/** A node of a {@link GraphSpec}. Operands are indices of earlier nodes. */
public sealed interface NodeSpec {

  /** An input of this type and shape. */
  record Input(ElementType type, List<Long> shape) implements NodeSpec {
    /** Copies the shape. */
    public Input {
      shape = List.copyOf(shape);
    }
  }

  /** The matrix product a·b, or a·bᵀ. */
  record MatMul(int a, int b, boolean transposeB) implements NodeSpec {}

  /** The sum a + b with NumPy's broadcasting. */
  record Add(int a, int b) implements NodeSpec {}

  /** max(a, 0). */
  record Relu(int a) implements NodeSpec {}
}
