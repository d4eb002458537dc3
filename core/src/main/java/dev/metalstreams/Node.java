package dev.metalstreams;

/** A value inside a {@link Graph}: an input, or the result of an operation. Immutable. */
public final class Node {
  private final GraphBuilder owner;
  private final int id;
  private final String name;
  private final DType type;
  private final Shape shape;

  Node(GraphBuilder owner, int id, String name, DType type, Shape shape) {
    this.owner = owner;
    this.id = id;
    this.name = name;
    this.type = type;
    this.shape = shape;
  }

  /** The input's name, or the operation and a number. */
  public String name() {
    return name;
  }

  /** Type of the elements. */
  public DType type() {
    return type;
  }

  /** A copy of the extents. */
  public long[] shape() {
    return shape.toArray();
  }

  Shape extents() {
    return shape;
  }

  int id() {
    return id;
  }

  GraphBuilder owner() {
    return owner;
  }

  @Override
  public String toString() {
    return name + " " + shape;
  }
}
