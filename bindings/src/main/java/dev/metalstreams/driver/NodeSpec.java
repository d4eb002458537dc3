package dev.metalstreams.driver;

import java.util.List;

/**
 * A node of a {@link GraphSpec}: what it means stands with the graph functions of {@code mst.h}.
 * Operands are indices of earlier nodes.
 */
public sealed interface NodeSpec {

  /** Operations on two tensors, element by element, with NumPy's broadcasting. */
  enum BinaryOperation {
    /** a + b. */
    ADD,
    /** a - b. */
    SUBTRACT,
    /** a · b. */
    MULTIPLY,
    /** a / b. */
    DIVIDE
  }

  /** Operations on each element. */
  enum UnaryOperation {
    /** max(a, 0). */
    RELU,
    /** 1 / (1 + exp(-a)). */
    SIGMOID,
    /** The hyperbolic tangent. */
    TANH,
    /** a · Φ(a), Φ the distribution function of the normal distribution. */
    GELU,
    /** Its approximation by a hyperbolic tangent. */
    GELU_TANH
  }

  /** An input of this type and shape. */
  record Input(ElementType type, List<Long> shape) implements NodeSpec {
    /** Copies the shape. */
    public Input {
      shape = List.copyOf(shape);
    }
  }

  /** Elements that belong to the graph. */
  record Constant(ElementType type, List<Long> shape, ConstantData data) implements NodeSpec {
    /** Copies the shape. */
    public Constant {
      shape = List.copyOf(shape);
    }
  }

  /** The same elements as another type. */
  record Cast(int a, ElementType type) implements NodeSpec {}

  /** The matrix product a·b, each of them transposed or not. */
  record MatMul(int a, int b, boolean transposeA, boolean transposeB) implements NodeSpec {}

  /** An operation on two tensors. */
  record Binary(BinaryOperation operation, int a, int b) implements NodeSpec {}

  /** An operation on each element. */
  record Unary(UnaryOperation operation, int a) implements NodeSpec {}

  /** The softmax along the last axis. */
  record Softmax(int a) implements NodeSpec {}

  /** (a - mean) / sqrt(variance + eps) · gamma + beta along the last axis. */
  record LayerNorm(int a, int gamma, int beta, float eps) implements NodeSpec {}

  /** The mean over axes, which disappear or become 1. */
  record Mean(int a, List<Integer> axes, boolean keepDims) implements NodeSpec {
    /** Copies the axes. */
    public Mean {
      axes = List.copyOf(axes);
    }
  }

  /** The same elements in the same order, with another shape. */
  record Reshape(int a, List<Long> shape) implements NodeSpec {
    /** Copies the shape. */
    public Reshape {
      shape = List.copyOf(shape);
    }
  }

  /** Axis i of the result is axis {@code permutation[i]} of a. */
  record Transpose(int a, List<Integer> permutation) implements NodeSpec {
    /** Copies the permutation. */
    public Transpose {
      permutation = List.copyOf(permutation);
    }
  }

  /** Tensors one after the other along an axis. */
  record Concat(List<Integer> nodes, int axis) implements NodeSpec {
    /** Copies the nodes. */
    public Concat {
      nodes = List.copyOf(nodes);
    }
  }

  /** The elements from {@code starts} to before {@code ends} on each axis. */
  record Slice(int a, List<Long> starts, List<Long> ends) implements NodeSpec {
    /** Copies the ranges. */
    public Slice {
      starts = List.copyOf(starts);
      ends = List.copyOf(ends);
    }
  }
}
