package dev.metalstreams.safetensors;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Objects;

/** Makes the bytes of files, sound or not. */
public final class SafetensorsFile {
  private SafetensorsFile() {}

  /** A header behind its true length, and zeros as data. */
  public static byte[] of(String header, int dataBytes) {
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    return withLength(text.length, text, dataBytes);
  }

  static byte[] withLength(long length, byte[] header, int dataBytes) {
    return ByteBuffer.allocate(Long.BYTES + header.length + dataBytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(length)
        .put(header)
        .array();
  }

  /** A file that ships with the command. */
  public static byte[] shipped(String name) {
    String path = "/dev/metalstreams/cli/data/" + name;
    try (InputStream in = Objects.requireNonNull(SafetensorsFile.class.getResourceAsStream(path))) {
      return in.readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** How many bytes there are before the data. */
  public static int dataStart(byte[] file) {
    return Math.toIntExact(
        Long.BYTES + ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong());
  }
}
