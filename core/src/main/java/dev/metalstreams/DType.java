package dev.metalstreams;

import dev.metalstreams.driver.ElementType;
import java.nio.ByteBuffer;

/**
 * Types of tensor elements. Operations take operands of one type and give a result of that type;
 * {@link GraphBuilder#cast} changes it.
 */
public enum DType {
  /** 32-bit IEEE 754 floating point. */
  F32(ElementType.F32),
  /**
   * 16-bit IEEE 754 floating point, for storage: inputs, constants and results take half the
   * memory. A backend computes with at least this precision.
   */
  F16(ElementType.F16);

  private final ElementType element;

  DType(ElementType element) {
    this.element = element;
  }

  /** Bytes of one element. */
  public int bytes() {
    return element.bytes();
  }

  ElementType element() {
    return element;
  }

  /** Reads {@code count} elements from the start of a buffer in native byte order. */
  void read(ByteBuffer from, float[] into, int count) {
    switch (this) {
      case F32 -> from.asFloatBuffer().get(0, into, 0, count);
      case F16 -> {
        for (int i = 0; i < count; i++) {
          into[i] = Float.float16ToFloat(from.getShort(i * Short.BYTES));
        }
      }
    }
  }

  /** Writes values to the start of a buffer in native byte order, rounded to this type. */
  void write(float[] values, ByteBuffer to) {
    switch (this) {
      case F32 -> to.asFloatBuffer().put(0, values);
      case F16 -> {
        for (int i = 0; i < values.length; i++) {
          to.putShort(i * Short.BYTES, Float.floatToFloat16(values[i]));
        }
      }
    }
  }
}
