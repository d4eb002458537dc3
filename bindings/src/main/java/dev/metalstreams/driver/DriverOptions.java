package dev.metalstreams.driver;

import java.util.Set;

/**
 * How to open a driver.
 *
 * @param backend {@code auto}, {@code host} or {@code metal}; auto is metal on a Mac with a usable
 *     device, else host
 * @param libraryPath path of the native library; "" for the one packed with the bindings
 * @param workers host: executing threads; 0 for one per CPU
 * @param mathLibrary host: {@code auto} (the packed or the system's BLAS, else the built-in
 *     kernel), {@code builtin}, or the path of a CBLAS library
 * @param flags ways to open the device
 */
public record DriverOptions(
    String backend, String libraryPath, int workers, String mathLibrary, Set<DriverFlag> flags) {

  /** Copies the flags. */
  public DriverOptions {
    flags = Set.copyOf(flags);
  }

  /** Without flags. */
  public DriverOptions(String backend, String libraryPath, int workers, String mathLibrary) {
    this(backend, libraryPath, workers, mathLibrary, Set.of());
  }
}
