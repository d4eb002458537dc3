package dev.metalstreams.safetensors;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * A tensor of a file. Immutable and safe to use from any thread; its content is read when it is
 * asked for.
 *
 * <p>All faults of a file show when it is opened. What is left to throw here is {@link
 * SafetensorsException} for a type that is not the one asked for, for a tensor that one Java array
 * or buffer cannot hold, and for a file that can no longer be read.
 */
public final class StoredTensor {
  private final Content content;
  private final String name;
  private final StoredType type;
  private final long[] shape;
  private final long offset;
  private final long byteSize;

  StoredTensor(
      Content content, String name, StoredType type, long[] shape, long offset, long byteSize) {
    this.content = content;
    this.name = name;
    this.type = type;
    this.shape = shape;
    this.offset = offset;
    this.byteSize = byteSize;
  }

  /** Its name in the file. */
  public String name() {
    return name;
  }

  /** The type of its elements. */
  public StoredType type() {
    return type;
  }

  /** Its dimensions, outermost first; none for a scalar. A copy. */
  public long[] shape() {
    return shape.clone();
  }

  /** How many elements it has. */
  public long elements() {
    return byteSize / type.bytes();
  }

  /** How many bytes it takes. */
  public long byteSize() {
    return byteSize;
  }

  /**
   * Its bytes in row-major order: read-only, little-endian, valid even after the file is closed.
   */
  public ByteBuffer bytes() {
    if (byteSize > Integer.MAX_VALUE) {
      throw content.fault(
          "tensor "
              + Text.quoted(name)
              + " is "
              + byteSize
              + " bytes, more than one buffer can give");
    }
    return content.read(offset, (int) byteSize).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** The values of an {@link StoredType#F32} tensor. */
  public float[] floats() {
    ByteBuffer bytes = bytesOf(StoredType.F32);
    float[] values = new float[bytes.remaining() / Float.BYTES];
    bytes.asFloatBuffer().get(values);
    return values;
  }

  /** The values of an {@link StoredType#I32} tensor. */
  public int[] ints() {
    ByteBuffer bytes = bytesOf(StoredType.I32);
    int[] values = new int[bytes.remaining() / Integer.BYTES];
    bytes.asIntBuffer().get(values);
    return values;
  }

  private ByteBuffer bytesOf(StoredType wanted) {
    if (type != wanted) {
      throw content.fault(
          "tensor " + Text.quoted(name) + " is of type " + type + ", not " + wanted);
    }
    return bytes();
  }

  @Override
  public String toString() {
    return name + " " + type + Arrays.toString(shape);
  }
}
