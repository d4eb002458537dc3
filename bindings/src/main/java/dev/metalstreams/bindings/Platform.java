package dev.metalstreams.bindings;

import java.util.Locale;

/**
 * An operating system and a processor, as the folders of packed libraries name them.
 *
 * @param os {@code linux} or {@code macos}; another system's own name if there are no libraries for
 *     it
 * @param arch {@code x86_64} or {@code aarch64}; likewise
 */
record Platform(String os, String arch) {

  static Platform current() {
    return of(System.getProperty("os.name"), System.getProperty("os.arch"));
  }

  /** From the values of {@code os.name} and {@code os.arch}, which differ between systems. */
  static Platform of(String osName, String osArch) {
    String os = osName.toLowerCase(Locale.ROOT);
    String arch = osArch.toLowerCase(Locale.ROOT);
    return new Platform(
        os.startsWith("mac") ? "macos" : os,
        switch (arch) {
          case "amd64" -> "x86_64";
          case "arm64" -> "aarch64";
          default -> arch;
        });
  }

  boolean isMac() {
    return os.equals("macos");
  }

  /** File name of a shim. */
  String libraryName(String backend) {
    return "libmetalstreams-" + backend + (isMac() ? ".dylib" : ".so");
  }

  @Override
  public String toString() {
    return os + "-" + arch;
  }
}
