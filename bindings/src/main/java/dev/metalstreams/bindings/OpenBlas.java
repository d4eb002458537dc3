package dev.metalstreams.bindings;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.net.URI;
import java.net.URL;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.jspecify.annotations.Nullable;

/**
 * OpenBLAS as it arrives through Maven: {@code org.bytedeco:openblas}, without the Java code around
 * it.
 *
 * <p>The hashes of the release that this project is built with are part of it. Another release on
 * the class path is used as well, but has to be read whole before its copy on disk is found.
 */
final class OpenBlas {

  /** The release whose hashes are known. */
  static final String RELEASE = "0.3.31-1.5.13";

  /** The libraries of the jar that OpenBLAS needs, before those that need them. */
  private static final List<String> LIBRARIES =
      List.of("libgcc_s.so.1", "libquadmath.so.0", "libgfortran.so.5", "libopenblas.so.0");

  private static @Nullable Path placed;

  private OpenBlas() {}

  /**
   * Lays OpenBLAS out on disk and loads what it needs, once in a process.
   *
   * @return path of the library; null if none is packed for this platform
   */
  static synchronized @Nullable Path place(
      Platform platform, Resources resources, LibraryCache cache) {
    if (placed == null) {
      List<PackedFile> files = packed(platform, resources);
      if (!files.isEmpty()) {
        Path directory = cache.place(files);
        loadDependencies(directory, files);
        placed = directory.resolve(files.getLast().name());
      }
    }
    return placed;
  }

  /** The packed libraries in the order of loading; none if the platform or the jar is not there. */
  static List<PackedFile> packed(Platform platform, Resources resources) {
    String folder = folder(platform);
    Map<String, String> known = knownHashes();
    List<PackedFile> files = new ArrayList<>();
    for (String library : LIBRARIES) {
      URL source = resources.find(folder + library);
      if (source != null) {
        String hash = known.get(folder + library);
        if (hash == null || !release(source, folder + library).equals(RELEASE)) {
          hash = hashOf(source);
        }
        files.add(new PackedFile(library, source, hash));
      }
    }
    boolean complete = !files.isEmpty() && files.getLast().name().equals(LIBRARIES.getLast());
    return complete ? files : List.of();
  }

  private static String folder(Platform platform) {
    String arch = platform.arch().equals("aarch64") ? "arm64" : platform.arch();
    return "org/bytedeco/openblas/" + platform.os() + "-" + arch + "/";
  }

  private static Map<String, String> knownHashes() {
    URL list =
        Resources.ofClassPath().find("META-INF/metalstreams/openblas-" + RELEASE + ".sha256");
    if (list == null) {
      throw new AssertionError("part of this module");
    }
    Map<String, String> hashes = new HashMap<>();
    for (String line : Resources.text(list).lines().toList()) {
      int gap = line.indexOf("  ");
      hashes.put(line.substring(gap + 2), line.substring(0, gap));
    }
    return hashes;
  }

  /** The release of the jar that a resource is in, as Maven notes it there. */
  private static String release(URL source, String resource) {
    String base = source.toString();
    base = base.substring(0, base.length() - resource.length());
    Properties properties = new Properties();
    try (InputStream in =
        URI.create(base + "META-INF/maven/org.bytedeco/openblas/pom.properties")
            .toURL()
            .openStream()) {
      properties.load(in);
    } catch (IOException e) {
      return "";
    }
    return properties.getProperty("version", "");
  }

  private static String hashOf(URL source) {
    try (InputStream in = source.openStream()) {
      return Sha256.of(in);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * libgfortran does not say that what it needs lies beside it, but the system's loader takes a
   * library of the right name that is loaded already. The system's own libgcc_s goes first: a
   * process should have one unwinder.
   */
  private static void loadDependencies(Path directory, List<PackedFile> files) {
    for (PackedFile file : files.subList(0, files.size() - 1)) {
      if (file.name().startsWith("libgcc_s") && isLoadable(file.name())) {
        continue;
      }
      Path library = directory.resolve(file.name());
      if (!isLoadable(library.toString())) {
        throw new DriverException(
            Status.NO_DEVICE,
            "%s, which OpenBLAS needs, cannot be loaded on this system; set the math library to builtin or to the path of a CBLAS library"
                .formatted(library));
      }
    }
  }

  private static boolean isLoadable(String library) {
    try {
      // Never unloaded: the math library holds on to it for good.
      SymbolLookup.libraryLookup(library, Arena.global());
      return true;
    } catch (IllegalArgumentException e) {
      return false;
    }
  }
}
