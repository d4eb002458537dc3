package dev.metalstreams.bench;

import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;

/**
 * One of the two digit classifiers that the command line ships.
 *
 * @param weights by their names in the file, as PyTorch has them
 */
record Network(Kind kind, Map<String, Weight> weights) {
  static final int INPUTS = 64;
  static final int OUTPUTS = 10;
  static final int TOKENS = 8;
  static final int PIXELS = 8;
  static final int WIDTH = 64;
  static final int HEADS = 4;
  static final int HEAD = WIDTH / HEADS;
  static final int LAYERS = 2;
  static final int FEED_FORWARD = 128;
  static final float EPS = 1e-5f;

  /** Which network. */
  enum Kind {
    MLP,
    TRANSFORMER;

    /** As the files call it. */
    String label() {
      return this == MLP ? "mlp" : "transformer";
    }
  }

  /** A parameter. */
  static final class Weight {
    final long[] shape;
    final float[] values;

    Weight(long[] shape, float[] values) {
      this.shape = shape;
      this.values = values;
    }

    /** A matrix [a, b] as [b, a]. */
    Weight transposed() {
      int rows = (int) shape[0];
      int columns = (int) shape[1];
      float[] turned = new float[values.length];
      for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
          turned[column * rows + row] = values[row * columns + column];
        }
      }
      return new Weight(new long[] {columns, rows}, turned);
    }
  }

  static Network read(Kind kind, Path data) {
    Map<String, Weight> weights = new LinkedHashMap<>();
    try (Safetensors file =
        Safetensors.open(data.resolve("digits_" + kind.label() + ".safetensors"))) {
      for (String name : file.names()) {
        StoredTensor tensor = file.tensor(name);
        weights.put(name, new Weight(tensor.shape(), tensor.floats()));
      }
    }
    return new Network(kind, weights);
  }

  Weight weight(String name) {
    return Objects.requireNonNull(weights.get(name), name);
  }
}
