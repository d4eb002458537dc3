package dev.metalstreams.cli;

import dev.metalstreams.safetensors.Safetensors;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Objects;

/** The digit classifier and the test images that ship with the command. */
final class ShippedDigits {
  private ShippedDigits() {}

  static Safetensors model() {
    return read("digits_mlp.safetensors");
  }

  static Safetensors test() {
    return read("digits_test.safetensors");
  }

  private static Safetensors read(String file) {
    try (InputStream in =
        Objects.requireNonNull(ShippedDigits.class.getResourceAsStream("data/" + file))) {
      return Safetensors.of("shipped " + file, ByteBuffer.wrap(in.readAllBytes()));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
