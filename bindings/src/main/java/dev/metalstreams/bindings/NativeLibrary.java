package dev.metalstreams.bindings;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.net.URL;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The native library of this process. Which one it is, is the whole of choosing a backend.
 *
 * <p>It is the file at a given path, or else the packed one for this platform, copied to where it
 * can be loaded. A candidate is {@linkplain LibraryProbe probed} first, so that one that does not
 * fit costs a sentence and the next can be tried. The first that fits stays for the life of the
 * process: the bindings link against it once, and another would export the same names.
 *
 * @param file where it was loaded from
 * @param probe what it said it is
 */
record NativeLibrary(Path file, LibraryProbe probe) {
  private static @Nullable NativeLibrary loaded;

  /** What was asked for when {@link #loaded} was chosen. */
  private static @Nullable Request answered;

  private record Request(String backend, String path) {}

  /**
   * Loads the library, or finds it loaded.
   *
   * @param backend {@code auto}, {@code host} or {@code metal}
   * @param path of the library; "" for the packed one
   * @throws DriverException with a sentence saying what to do
   */
  static synchronized NativeLibrary load(
      String backend, String path, Platform platform, Resources resources, LibraryCache cache) {
    Request request = new Request(backend, path);
    if (loaded != null && request.equals(answered)) {
      return loaded;
    }
    NativeLibrary library = choose(backend, path, platform, resources, cache);
    if (loaded == null) {
      link(library.file());
      loaded = library;
      answered = request;
    } else if (!isSameFile(loaded.file(), library.file())) {
      throw refused(
          "this process has loaded %s already and cannot load %s as well: there is one native library in a process"
              .formatted(loaded.file(), library.file()));
    }
    return loaded;
  }

  /** Finds a library that fits. */
  static NativeLibrary choose(
      String backend, String path, Platform platform, Resources resources, LibraryCache cache) {
    if (!List.of("auto", "host", "metal").contains(backend)) {
      throw new DriverException(
          Status.INVALID_ARGUMENT,
          "there is no backend '%s'; it is auto, host or metal".formatted(backend));
    }
    checkNativeAccess();
    if (!path.isEmpty()) {
      return atPath(backend, Path.of(path).toAbsolutePath(), buildId(resources));
    }
    if (backend.equals("metal") && !platform.isMac()) {
      throw refused("the metal backend needs a Mac; choose the backend host or auto");
    }
    if (platform.isMac() && !backend.equals("host")) {
      NativeLibrary metal = packed("metal", platform, resources, cache);
      if (metal != null && metal.probe().devices() > 0) {
        return metal;
      }
      if (backend.equals("metal")) {
        throw refused(
            metal == null
                ? "no metal library for %s is packed; choose the backend host or auto, or give the library's path"
                    .formatted(platform)
                : "choose the backend host or auto, as this Mac has no usable Metal device"
                    + metal.probe().because());
      }
    }
    NativeLibrary host = packed("host", platform, resources, cache);
    if (host == null) {
      throw refused(
          "no native library for %s is on the class path; add metalstreams-shim with classifier natives-%s, or give the library's path"
              .formatted(platform, platform));
    }
    return host;
  }

  /** Before the bindings' classes are initialised: one that failed to would never be again. */
  private static void checkNativeAccess() {
    try {
      MemorySegment.NULL.reinterpret(0);
    } catch (IllegalCallerException e) {
      throw new DriverException(
          Status.NO_DEVICE,
          "native access is not allowed; start Java with"
              + " --enable-native-access=dev.metalstreams.bindings, or =ALL-UNNAMED if that is on"
              + " the class path",
          e);
    }
  }

  private static NativeLibrary atPath(String backend, Path file, String buildId) {
    NativeLibrary library = new NativeLibrary(file, LibraryProbe.of(file, buildId));
    if (!backend.equals("auto") && !backend.equals(library.probe().backend())) {
      throw refused(
          "%s serves the backend %s, not %s".formatted(file, library.probe().backend(), backend));
    }
    if (library.probe().devices() == 0) {
      throw refused("%s finds no usable device here%s".formatted(file, library.probe().because()));
    }
    return library;
  }

  private static @Nullable NativeLibrary packed(
      String backend, Platform platform, Resources resources, LibraryCache cache) {
    String name = platform.libraryName(backend);
    String resource = "META-INF/native/" + platform + "/" + name;
    URL source = resources.find(resource);
    URL hash = resources.find(resource + ".sha256");
    if (source == null || hash == null) {
      return null;
    }
    PackedFile packed = new PackedFile(name, source, Resources.text(hash));
    Path file = cache.place(List.of(packed)).resolve(name);
    return new NativeLibrary(file, LibraryProbe.of(file, buildId(resources)));
  }

  /** Of the sources that this build is made of. */
  static String buildId(Resources resources) {
    URL resource = resources.find("META-INF/metalstreams/build-id");
    if (resource == null) {
      throw refused("metalstreams-shim is not on the class path; add it");
    }
    return Resources.text(resource);
  }

  private static void link(Path file) {
    try {
      // The generated bindings look for symbols in what this class loader has loaded.
      System.load(file.toString());
    } catch (UnsatisfiedLinkError e) {
      throw new DriverException(
          Status.NO_DEVICE,
          "%s cannot be loaded: %s; a process uses it from one class loader"
              .formatted(file, e.getMessage()),
          e);
    }
  }

  private static boolean isSameFile(Path a, Path b) {
    try {
      return a.toRealPath().equals(b.toRealPath());
    } catch (IOException e) {
      return a.equals(b);
    }
  }

  private static DriverException refused(String message) {
    return new DriverException(Status.NO_DEVICE, message);
  }
}
