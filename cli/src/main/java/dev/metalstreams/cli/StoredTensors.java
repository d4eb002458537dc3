package dev.metalstreams.cli;

import dev.metalstreams.safetensors.Safetensors;
import dev.metalstreams.safetensors.StoredTensor;
import dev.metalstreams.safetensors.StoredType;
import java.util.Arrays;

/** Asks a file for tensors of a certain kind. */
final class StoredTensors {
  private StoredTensors() {}

  /** A float tensor of that many dimensions, none of them 0. */
  static StoredTensor floats(Safetensors file, String name, int rank) {
    return find(file, name, StoredType.F32, rank);
  }

  /** A float tensor of any number of dimensions, none of them 0. */
  static StoredTensor floats(Safetensors file, String name) {
    return find(file, name, StoredType.F32, -1);
  }

  /** An integer tensor of that many dimensions, none of them 0. */
  static StoredTensor ints(Safetensors file, String name, int rank) {
    return find(file, name, StoredType.I32, rank);
  }

  /** A tensor; a negative rank is any. */
  private static StoredTensor find(Safetensors file, String name, StoredType type, int rank) {
    StoredTensor tensor = file.tensor(name);
    if (tensor.type() != type) {
      throw fault(file, name + " is of type " + tensor.type() + ", not " + type);
    }
    long[] shape = tensor.shape();
    if (rank >= 0 && shape.length != rank) {
      throw fault(file, name + " has " + shape.length + " dimensions, not " + rank);
    }
    if (tensor.elements() == 0) {
      throw fault(file, name + " has the shape " + Arrays.toString(shape) + " and so no values");
    }
    if (tensor.byteSize() > Integer.MAX_VALUE) {
      throw fault(
          file, name + " has " + tensor.byteSize() + " bytes, more than the 2 GiB that fit here");
    }
    return tensor;
  }

  /** Makes the exception for what a file holds but should not. */
  static UsageException fault(Safetensors file, String fault) {
    return new UsageException(file.name() + ": " + fault);
  }
}
