package dev.metalstreams.cli;

import dev.metalstreams.safetensors.Safetensors;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Objects;

/** The files that ship with the command. */
final class Shipped {
  private Shipped() {}

  /** The digits, with labels and the logits of each classifier. */
  static Safetensors digits() {
    return file("digits_test.safetensors");
  }

  /** Operations with their results. */
  static Safetensors golden() {
    return file("golden_ops.safetensors");
  }

  static Safetensors file(String file) {
    try (InputStream in =
        Objects.requireNonNull(Shipped.class.getResourceAsStream("data/" + file))) {
      return Safetensors.of("shipped " + file, ByteBuffer.wrap(in.readAllBytes()));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
