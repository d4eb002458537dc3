package dev.metalstreams.driver;

/**
 * How to open a driver.
 *
 * @param backend {@code auto}, {@code host} or {@code metal}; auto is metal on a Mac with a usable
 *     device, else host
 * @param libraryPath path of the native library; "" for the one packed with the bindings
 * @param workers host: executing threads; 0 for one per CPU
 * @param mathLibrary host: {@code auto} (the packed or the system's BLAS, else the built-in
 *     kernel), {@code builtin}, or the path of a CBLAS library
 */
public record DriverOptions(String backend, String libraryPath, int workers, String mathLibrary) {}
