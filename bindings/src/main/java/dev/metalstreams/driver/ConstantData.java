package dev.metalstreams.driver;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * The elements of a constant: dense, row-major, in native byte order. An immutable value; its hash
 * is computed once, since graphs with large constants are keys.
 */
public final class ConstantData {
  private final byte[] bytes;
  private final int hash;

  private ConstantData(byte[] bytes) {
    this.bytes = bytes;
    this.hash = Arrays.hashCode(bytes);
  }

  /** Copies what remains in a buffer, and leaves the buffer as it is. */
  public static ConstantData copyOf(ByteBuffer elements) {
    byte[] copy = new byte[elements.remaining()];
    elements.get(elements.position(), copy);
    return new ConstantData(copy);
  }

  /** Bytes of all elements. */
  public int byteSize() {
    return bytes.length;
  }

  /** A read-only view in native byte order. */
  public ByteBuffer bytes() {
    return ByteBuffer.wrap(bytes).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
  }

  @Override
  public boolean equals(@Nullable Object other) {
    return this == other
        || (other instanceof ConstantData data
            && hash == data.hash
            && Arrays.equals(bytes, data.bytes));
  }

  @Override
  public int hashCode() {
    return hash;
  }

  @Override
  public String toString() {
    return bytes.length + " bytes";
  }
}
