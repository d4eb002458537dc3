package dev.metalstreams.safetensors;

import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/** The element types of a file, under the names that the format gives them. */
public enum StoredType {
  /** One byte, 0 or 1. */
  BOOL(1),
  /** Unsigned 8-bit integer. */
  U8(1),
  /** Signed 8-bit integer. */
  I8(1),
  /** 8-bit float, 5 bits of exponent. */
  F8_E5M2(1),
  /** 8-bit float, 4 bits of exponent. */
  F8_E4M3(1),
  /** 8-bit power of two. */
  F8_E8M0(1),
  /** Unsigned 16-bit integer. */
  U16(2),
  /** Signed 16-bit integer. */
  I16(2),
  /** IEEE half precision. */
  F16(2),
  /** The upper half of an {@link #F32}. */
  BF16(2),
  /** Unsigned 32-bit integer. */
  U32(4),
  /** Signed 32-bit integer. */
  I32(4),
  /** IEEE single precision. */
  F32(4),
  /** Unsigned 64-bit integer. */
  U64(8),
  /** Signed 64-bit integer. */
  I64(8),
  /** IEEE double precision. */
  F64(8),
  /** Two {@link #F32}: real and imaginary part. */
  C64(8);

  private static final Map<String, StoredType> BY_NAME =
      Arrays.stream(values())
          .collect(Collectors.toUnmodifiableMap(Enum::name, Function.identity()));

  private final int bytes;

  StoredType(int bytes) {
    this.bytes = bytes;
  }

  /** Bytes of one element. */
  public int bytes() {
    return bytes;
  }

  static @Nullable StoredType named(String name) {
    return BY_NAME.get(name);
  }
}
