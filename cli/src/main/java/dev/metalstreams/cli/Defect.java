package dev.metalstreams.cli;

import dev.metalstreams.driver.DriverFlag;
import java.util.Arrays;
import java.util.Locale;
import java.util.Set;

/** What {@code repro} can run. */
enum Defect {
  /** Products by MPSNDArrayMatrixMultiplication, encoded by several threads at once. */
  NDARRAY_MATMUL(
      "products by MPSNDArrayMatrixMultiplication, each thread with a queue and objects of its own",
      "Apple's stack was seen to fail with 3 threads and more",
      false),
  /** Compute kernels, encoded by several threads at once. */
  COMPUTE_KERNEL(
      "layer norms by a compute kernel, each thread with a queue and encoders of its own",
      "Apple's stack was seen to fail with 4 threads and more",
      false,
      DriverFlag.PARALLEL_COMPUTE),
  /** One command buffer, encoded into by several threads at once. */
  SHARED_COMMAND_BUFFER(
      "copies, which all threads encode into one command buffer at once",
      "API misuse: a command buffer belongs to one thread at a time, and it is no defect that this"
          + " fails",
      true);

  private final String does;
  private final String expected;
  private final boolean misuse;

  @SuppressWarnings("ImmutableEnumChecker") // made by Set.of
  private final Set<DriverFlag> flags;

  Defect(String does, String expected, boolean misuse, DriverFlag... flags) {
    this.does = does;
    this.expected = expected;
    this.misuse = misuse;
    this.flags = Set.of(flags);
  }

  /** Its name on the command line. */
  String label() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }

  static Defect of(String label) {
    return valueOf(label.toUpperCase(Locale.ROOT).replace('-', '_'));
  }

  static String[] labels() {
    return Arrays.stream(values()).map(Defect::label).toArray(String[]::new);
  }

  /** What is run. */
  String does() {
    return does;
  }

  /** What was seen of it, for people. */
  String expected() {
    return expected;
  }

  /** Whether it breaks the rules of the API, so that nobody but the caller is to blame. */
  boolean isMisuse() {
    return misuse;
  }

  /** How the device is opened: without the workaround for it. */
  Set<DriverFlag> flags() {
    return flags;
  }
}
