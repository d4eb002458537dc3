package dev.metalstreams.cli;

import dev.metalstreams.safetensors.Safetensors;
import java.util.Locale;

/** The kinds of model that there are, each with the one that ships. */
enum Architecture {
  /** Linear layers with ReLU between. */
  MLP,
  /** An encoder. */
  TRANSFORMER;

  /** Its name on the command line and in files. */
  String label() {
    return name().toLowerCase(Locale.ROOT);
  }

  static Architecture of(String label) {
    return valueOf(label.toUpperCase(Locale.ROOT));
  }

  /**
   * Reads a model.
   *
   * @throws UsageException if the file holds no such model
   */
  Model read(Safetensors file) {
    return switch (this) {
      case MLP -> MlpModel.read(file);
      case TRANSFORMER -> TransformerModel.read(file);
    };
  }

  /** The digit classifier that ships. */
  Safetensors shipped() {
    return Shipped.file("digits_" + label() + ".safetensors");
  }
}
