package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Looks into a native library before this process takes it for good: it is opened, asked what it
 * is, and closed again. A library that does not fit leaves nothing behind.
 *
 * @param backend {@code host} or {@code metal}
 * @param abiVersion the {@code MST_ABI_VERSION} it was built with
 * @param buildId hash of the sources it was built from
 * @param devices how many devices it can open
 * @param refusal why it can open none, in its own words; "" if it can, or does not say
 */
record LibraryProbe(String backend, int abiVersion, String buildId, int devices, String refusal) {
  private static final FunctionDescriptor INT_FUNCTION = FunctionDescriptor.of(mst_h.C_INT);
  private static final FunctionDescriptor TEXT_FUNCTION = FunctionDescriptor.of(mst_h.C_POINTER);
  private static final FunctionDescriptor OPEN_FUNCTION =
      FunctionDescriptor.of(mst_h.C_INT, mst_h.C_INT, mst_h.C_POINTER, mst_h.C_POINTER);
  private static final String DESCRIPTOR_SUFFIX = "$descriptor";

  /**
   * Opens a library, and checks that it was built from the header that the bindings were made from
   * and from the sources that this build is made of.
   *
   * @throws DriverException naming the file and what does not fit
   */
  static LibraryProbe of(Path file, String expectedBuildId) {
    if (!Files.isRegularFile(file)) {
      throw refused("there is no native library at %s".formatted(file));
    }
    try (Arena arena = Arena.ofConfined()) {
      return ask(file, open(file, arena), expectedBuildId);
    }
  }

  private static LibraryProbe ask(Path file, SymbolLookup library, String expectedBuildId) {
    int abiVersion = callForInt(file, library, "mst_abi_version");
    if (abiVersion != mst_h.MST_ABI_VERSION()) {
      throw refused(
          "%s has version %d of the C ABI, and these bindings need version %d; use the library that was built with them"
              .formatted(file, abiVersion, mst_h.MST_ABI_VERSION()));
    }
    String buildId = callForText(file, library, "mst_build_id");
    if (!buildId.equals(expectedBuildId)) {
      throw refused(
          "%s was built from other sources (build id %s) than these bindings (build id %s); build it again, or use the one that is packed"
              .formatted(file, buildId, expectedBuildId));
    }
    List<String> missing = new ArrayList<>();
    for (String function : functions()) {
      if (library.find(function).isEmpty()) {
        missing.add(function);
      }
    }
    if (!missing.isEmpty()) {
      throw refused(
          "%s lacks %s; it is not a whole shim".formatted(file, String.join(", ", missing)));
    }
    int devices = callForInt(file, library, "mst_device_count");
    return new LibraryProbe(
        callForText(file, library, "mst_backend_name"),
        abiVersion,
        buildId,
        devices,
        devices > 0 ? "" : refusal(file, library));
  }

  /** Why the library, which counts no device, opens none: it says so when it is asked to. */
  private static String refusal(Path file, SymbolLookup library) {
    MethodHandle open =
        Linker.nativeLinker().downcallHandle(find(file, library, "mst_device_open"), OPEN_FUNCTION);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(mst_h.C_POINTER);
      int status = (int) open.invokeExact(0, MemorySegment.NULL, out);
      return status == mst_h.MST_ERROR_NO_DEVICE()
          ? callForText(file, library, "mst_last_error")
          : "";
    } catch (Throwable e) {
      throw new AssertionError("a downcall throws nothing", e);
    }
  }

  /** Behind a sentence on having no device. */
  String because() {
    return refusal.isEmpty() ? "" : ": " + refusal;
  }

  /** The functions of the ABI. */
  static List<String> functions() {
    List<String> names = new ArrayList<>();
    for (Method method : mst_h.class.getDeclaredMethods()) {
      String name = method.getName();
      if (name.endsWith(DESCRIPTOR_SUFFIX)) {
        names.add(name.substring(0, name.length() - DESCRIPTOR_SUFFIX.length()));
      }
    }
    names.sort(null);
    return names;
  }

  private static SymbolLookup open(Path file, Arena arena) {
    try {
      return SymbolLookup.libraryLookup(file, arena);
    } catch (IllegalArgumentException e) {
      throw refused("%s cannot be loaded: %s".formatted(file, reason(file)), e);
    }
  }

  /**
   * What the system's loader says of a library that it refuses; the lookup above keeps that to
   * itself.
   */
  private static String reason(Path file) {
    try {
      System.load(file.toString());
      return "it could not be opened";
    } catch (UnsatisfiedLinkError e) {
      return String.valueOf(e.getMessage()).replace(file + ": ", "");
    }
  }

  private static MemorySegment find(Path file, SymbolLookup library, String function) {
    return library
        .find(function)
        .orElseThrow(() -> refused("%s is not a shim: it lacks %s".formatted(file, function)));
  }

  private static int callForInt(Path file, SymbolLookup library, String function) {
    MethodHandle handle =
        Linker.nativeLinker().downcallHandle(find(file, library, function), INT_FUNCTION);
    try {
      return (int) handle.invokeExact();
    } catch (Throwable e) {
      throw new AssertionError("a downcall throws nothing", e);
    }
  }

  private static String callForText(Path file, SymbolLookup library, String function) {
    MethodHandle handle =
        Linker.nativeLinker().downcallHandle(find(file, library, function), TEXT_FUNCTION);
    try {
      return ((MemorySegment) handle.invokeExact()).getString(0);
    } catch (Throwable e) {
      throw new AssertionError("a downcall throws nothing", e);
    }
  }

  private static DriverException refused(String message) {
    return new DriverException(Status.NO_DEVICE, message);
  }

  private static DriverException refused(String message, Throwable cause) {
    return new DriverException(Status.NO_DEVICE, message, cause);
  }
}
