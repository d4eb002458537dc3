package dev.metalstreams.cli;

import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** The input of an inference, from a file. */
final class Samples {
  private final int count;
  private final int width;
  private final float[] values;
  private final Optional<int[]> labels;
  private final Optional<float[]> logits;

  private Samples(
      int count, int width, float[] values, Optional<int[]> labels, Optional<float[]> logits) {
    this.count = count;
    this.width = width;
    this.values = values;
    this.labels = labels;
    this.logits = logits;
  }

  /**
   * Reads them: {@code x}, and {@code y} and the logits where they are there.
   *
   * @param classes how many values the model gives
   * @param logitNames under which names the logits may be, the first found wins
   * @throws UsageException if the file holds something that does not fit
   */
  static Samples read(Safetensors file, int width, int classes, List<String> logitNames) {
    StoredTensor x = StoredTensors.floats(file, "x", 2);
    int count = Math.toIntExact(x.shape()[0]);
    if (x.shape()[1] != width) {
      throw StoredTensors.fault(
          file, "x has " + x.shape()[1] + " values per sample, but the model takes " + width);
    }
    Optional<int[]> labels =
        file.contains("y") ? Optional.of(readLabels(file, count, classes)) : Optional.empty();
    Optional<float[]> logits =
        logitNames.stream()
            .filter(file::contains)
            .findFirst()
            .map(name -> readLogits(file, name, count, classes));
    return new Samples(count, width, x.floats(), labels, logits);
  }

  private static int[] readLabels(Safetensors file, int count, int classes) {
    StoredTensor y = StoredTensors.ints(file, "y", 1);
    if (y.shape()[0] != count) {
      throw StoredTensors.fault(
          file, "y has " + y.shape()[0] + " labels for " + count + " samples");
    }
    int[] labels = y.ints();
    for (int i = 0; i < count; i++) {
      if (labels[i] < 0 || labels[i] >= classes) {
        throw StoredTensors.fault(
            file,
            "y has the label "
                + labels[i]
                + " for sample "
                + i
                + ", but the model knows the classes 0 to "
                + (classes - 1));
      }
    }
    return labels;
  }

  private static float[] readLogits(Safetensors file, String name, int count, int classes) {
    StoredTensor logits = StoredTensors.floats(file, name, 2);
    if (logits.shape()[0] != count || logits.shape()[1] != classes) {
      throw StoredTensors.fault(
          file,
          name
              + " has the shape "
              + Arrays.toString(logits.shape())
              + ", not ["
              + count
              + ", "
              + classes
              + "]");
    }
    return logits.floats();
  }

  /** How many there are. */
  int count() {
    return count;
  }

  /** Values of a sample. */
  int width() {
    return width;
  }

  /** The right class of each sample, if the file says. */
  Optional<int[]> labels() {
    return labels;
  }

  /** What the model should give for each sample, sample after sample, if the file says. */
  Optional<float[]> logits() {
    return logits;
  }

  /** The values of some samples that follow one another. */
  float[] slice(int first, int samples) {
    return Arrays.copyOfRange(values, first * width, (first + samples) * width);
  }
}
