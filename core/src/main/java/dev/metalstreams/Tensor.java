package dev.metalstreams;

import java.util.Objects;

/**
 * A dense, row-major array in a buffer of its own. Closing it closes the buffer, which is safe at
 * any time.
 *
 * <p>Its bytes change only by work that is encoded, or by {@link #write}.
 */
public final class Tensor implements AutoCloseable {
  private final DType type;
  private final Shape shape;
  private final DeviceBuffer buffer;

  Tensor(DType type, Shape shape, DeviceBuffer buffer) {
    this.type = type;
    this.shape = shape;
    this.buffer = buffer;
  }

  /** Bytes that a tensor takes. */
  static long bytes(DType type, Shape shape) {
    return shape.elements() * type.bytes();
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

  /** Number of elements. */
  public long elements() {
    return shape.elements();
  }

  /** The memory. It ends with the tensor. */
  public DeviceBuffer buffer() {
    return buffer;
  }

  /**
   * The elements, after waiting for the work on this tensor and for no other.
   *
   * @throws IllegalStateException if the tensor is closed, or has more elements than an array can
   * @throws StreamFailedException if work on it failed
   */
  public float[] toFloats() {
    float[] into = new float[arrayLength()];
    toFloats(into);
    return into;
  }

  /**
   * Copies the elements to the start of an array, after waiting for the work on this tensor and for
   * no other.
   *
   * @throws IllegalArgumentException if the array is too short
   * @throws IllegalStateException if the tensor is closed
   * @throws StreamFailedException if work on it failed
   */
  public void toFloats(float[] into) {
    Objects.requireNonNull(into, "into");
    int length = arrayLength();
    if (into.length < length) {
      throw new IllegalArgumentException(
          "the array has " + into.length + " elements, the tensor " + length);
    }
    try (HostView view = buffer.view("toFloats", false, true)) {
      type.read(view.bytes(), into, length);
    }
  }

  /**
   * Sets the elements from the CPU, rounded to the type, after waiting until no work on the device
   * uses the tensor.
   *
   * @throws IllegalArgumentException if there are not as many values as elements
   * @throws IllegalStateException if the tensor is closed
   * @throws StreamFailedException if work on it failed
   */
  public void write(float[] values) {
    Objects.requireNonNull(values, "values");
    if (values.length != elements()) {
      throw new IllegalArgumentException(
          values.length + " values for a tensor of shape " + shape + ", which has " + elements());
    }
    try (HostView view = buffer.view("write", true, true)) {
      type.write(values, view.bytes());
    }
  }

  private int arrayLength() {
    // Mapped through one ByteBuffer, whose length is an int.
    if (buffer.byteSize() > Integer.MAX_VALUE) {
      throw new IllegalStateException(
          "a tensor of shape " + shape + " is too large for one array: map its buffer in ranges");
    }
    return (int) elements();
  }

  /** Whether it is closed. */
  public boolean isClosed() {
    return buffer.isClosed();
  }

  /** Ends it. Does not wait. Idempotent. */
  @Override
  public void close() {
    buffer.close();
  }

  @Override
  public String toString() {
    return type + " tensor " + shape + " on stream " + buffer.stream().index();
  }
}
