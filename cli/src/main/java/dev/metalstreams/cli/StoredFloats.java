package dev.metalstreams.cli;

import dev.metalstreams.safetensors.StoredTensor;

/** A float tensor that was read from a file. Its arrays are not to be changed. */
final class StoredFloats {
  final long[] shape;
  final float[] values;

  private StoredFloats(long[] shape, float[] values) {
    this.shape = shape;
    this.values = values;
  }

  static StoredFloats of(StoredTensor tensor) {
    return new StoredFloats(tensor.shape(), tensor.floats());
  }
}
