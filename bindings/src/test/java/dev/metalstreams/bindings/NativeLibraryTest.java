package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.Status;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Choosing a library: each that does not fit is refused in a sentence, and leaves no trace. */
class NativeLibraryTest {
  private static final Platform HERE = Platform.current();
  private static final Resources RESOURCES = Resources.ofClassPath();
  private static final Platform MAC = new Platform("macos", "aarch64");
  private static final int ABI = mst_h.MST_ABI_VERSION();
  private static final String BUILD_ID = NativeLibrary.buildId(RESOURCES);

  @TempDir Path folder;
  private LibraryCache cache;

  @BeforeEach
  void makeCache() {
    cache = new LibraryCache(folder.resolve("cache"));
  }

  @Test
  void thePackedHostLibraryIsTheDefaultOffAMac() {
    Platform linux = new Platform("linux", HERE.arch());
    NativeLibrary library = NativeLibrary.choose("auto", "", linux, RESOURCES, cache);

    assertThat(library.file())
        .hasFileName("libmetalstreams-host.so")
        .startsWith(folder.resolve("cache"));
    assertThat(library.probe()).isEqualTo(new LibraryProbe("host", ABI, BUILD_ID, 1, ""));
  }

  @Test
  void aPathIsTakenBeforeThePackedLibrary() throws Exception {
    Path packed = NativeLibrary.choose("host", "", HERE, RESOURCES, cache).file();
    Path copy = Files.copy(packed, folder.resolve("mine.so"));

    assertThat(choose("auto", copy).file()).isEqualTo(copy);
    assertThat(choose("host", copy).file()).isEqualTo(copy);
  }

  @Test
  void aPathWithoutAFileIsRefused() {
    Path missing = folder.resolve("missing.so");

    assertRefused(() -> choose("host", missing), "there is no native library at " + missing);
  }

  @Test
  void aFileThatIsNoLibraryIsRefused() throws Exception {
    Path garbage = Files.writeString(folder.resolve("garbage.so"), "not a library".repeat(1000));

    assertRefused(() -> choose("host", garbage), garbage + " cannot be loaded: ");
  }

  @Test
  void aTruncatedLibraryIsRefused() throws Exception {
    Path packed = NativeLibrary.choose("host", "", HERE, RESOURCES, cache).file();
    byte[] bytes = Files.readAllBytes(packed);
    Path half = folder.resolve("half.so");
    Files.write(half, Arrays.copyOf(bytes, 100));

    assertRefused(() -> choose("host", half), half + " cannot be loaded: ");
  }

  @Test
  void aLibraryOfSomethingElseIsRefused() throws Exception {
    Path other = CompiledShim.library(folder, "other", "int something(void) { return 1; }\n");

    assertRefused(() -> choose("host", other), other + " is not a shim: it lacks mst_abi_version");
  }

  @Test
  void anotherVersionOfTheAbiIsRefusedNamingBoth() throws Exception {
    Path newer = CompiledShim.compile(folder, "newer", ABI + 1, BUILD_ID, List.of());

    assertRefused(
        () -> choose("host", newer),
        "%s has version %d of the C ABI, and these bindings need version %d"
            .formatted(newer, ABI + 1, ABI));
  }

  @Test
  void aStaleLibraryIsRefusedNamingBothBuilds() throws Exception {
    Path stale = CompiledShim.compile(folder, "stale", ABI, "0123456789abcdef", List.of());

    assertRefused(
        () -> choose("host", stale),
        "%s was built from other sources (build id 0123456789abcdef) than these bindings (build id %s)"
            .formatted(stale, BUILD_ID));
  }

  @Test
  void aLibraryThatLacksFunctionsIsRefusedNamingThem() throws Exception {
    List<String> functions = new ArrayList<>(LibraryProbe.functions());
    functions.removeAll(List.of("mst_abi_version", "mst_build_id", "mst_backend_name"));
    functions.removeAll(List.of("mst_queue_wait", "mst_graph_relu"));
    Path partial = CompiledShim.compile(folder, "partial", ABI, BUILD_ID, functions);

    assertRefused(
        () -> choose("host", partial), partial + " lacks mst_graph_relu, mst_queue_wait;");
  }

  @Test
  void aLibraryOfAnotherBackendOrWithoutADeviceIsRefused() throws Exception {
    List<String> functions = new ArrayList<>(LibraryProbe.functions());
    functions.removeAll(List.of("mst_abi_version", "mst_build_id", "mst_backend_name"));
    Path metal = CompiledShim.compile(folder, "metal", ABI, BUILD_ID, functions);

    assertRefused(() -> choose("host", metal), metal + " serves the backend metal, not host");
    assertRefused(() -> choose("metal", metal), metal + " finds no usable device here");
  }

  @Test
  void aLibraryThatOpensNoDeviceSaysWhy() throws Exception {
    List<String> functions = new ArrayList<>(LibraryProbe.functions());
    functions.removeAll(
        List.of(
            "mst_abi_version",
            "mst_build_id",
            "mst_backend_name",
            "mst_device_open",
            "mst_last_error"));
    StringBuilder c =
        new StringBuilder(
            """
            int mst_abi_version(void) { return %d; }
            const char *mst_build_id(void) { return "%s"; }
            const char *mst_backend_name(void) { return "metal"; }
            static const char *said = "";
            int mst_device_open(unsigned index, const void *options, void **out) {
              said = index == 0 && !options && out ? "\\"Odd GPU\\": it is too odd" : "called wrongly";
              return %d;
            }
            const char *mst_last_error(void) { return said; }
            """
                .formatted(ABI, BUILD_ID, Status.NO_DEVICE.code()));
    functions.forEach(name -> c.append("int %s(void) { return 0; }\n".formatted(name)));
    Path odd = CompiledShim.library(folder, "odd", c.toString());

    assertRefused(
        () -> choose("metal", odd),
        odd + " finds no usable device here: \"Odd GPU\": it is too odd");
  }

  @Test
  void anUnknownBackendIsRefused() {
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> NativeLibrary.choose("cuda", "", HERE, RESOURCES, cache))
        .withMessage("there is no backend 'cuda'; it is auto, host or metal")
        .extracting(DriverException::status)
        .isEqualTo(Status.INVALID_ARGUMENT);
  }

  @Test
  void metalNeedsAMacAndALibrary() {
    Platform linux = new Platform("linux", "x86_64");
    assertRefused(
        () -> NativeLibrary.choose("metal", "", linux, RESOURCES, cache),
        "the metal backend needs a Mac; choose the backend host or auto");
    assertRefused(
        () -> NativeLibrary.choose("metal", "", MAC, name -> null, cache),
        "no metal library for macos-aarch64 is packed");
  }

  @Test
  void aPlatformWithoutAPackedLibraryIsRefused() {
    Platform other = new Platform("plan9", "sparc");
    assertRefused(
        () -> NativeLibrary.choose("auto", "", other, RESOURCES, cache),
        "no native library for plan9-sparc is on the class path",
        "natives-plan9-sparc");
  }

  @Test
  void aShimJarThatIsNotThereIsNamed() {
    assertRefused(
        () -> NativeLibrary.choose("host", "/lib/x.so", HERE, name -> null, cache),
        "metalstreams-shim is not on the class path");
  }

  @Test
  void aPackedLibraryThatDoesNotMatchItsHashIsRefused() {
    Resources damaged =
        name ->
            // Something that is there, in place of the library.
            RESOURCES.find(
                name.endsWith(".so") || name.endsWith(".dylib")
                    ? "META-INF/metalstreams/build-id"
                    : name);
    assertRefused(
        () -> NativeLibrary.choose("host", "", HERE, damaged, cache), "is damaged: its SHA-256 is");
  }

  @Test
  void whereNativeAccessIsDeniedTheFlagIsNamed() throws Exception {
    Process java =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--illegal-native-access=deny",
                "-cp",
                System.getProperty("java.class.path"),
                Denied.class.getName())
            .redirectErrorStream(true)
            .start();

    assertThat(new String(java.getInputStream().readAllBytes(), StandardCharsets.UTF_8))
        .startsWith("native access is not allowed; start Java with --enable-native-access=");
    assertThat(java.waitFor()).isZero();
  }

  /** A program without native access. */
  static final class Denied {
    private Denied() {}

    public static void main(String[] args) {
      try {
        new FfmDriverProvider().open(new DriverOptions("host", "", 0, "auto"));
      } catch (DriverException e) {
        System.out.print(e.getMessage());
      }
    }
  }

  @Test
  void aProcessLoadsOneLibrary() throws Exception {
    NativeLibrary first = load("host", "");
    Path copy = Files.copy(first.file(), folder.resolve("copy.so"));

    assertThat(load("host", "")).isSameAs(first);
    assertThat(load("auto", "").file()).isEqualTo(first.file());
    assertThat(load("auto", first.file().toString())).isSameAs(first);
    assertRefused(
        () -> load("host", copy.toString()),
        "this process has loaded %s already and cannot load %s as well"
            .formatted(first.file(), copy));
  }

  private NativeLibrary choose(String backend, Path path) {
    return NativeLibrary.choose(backend, path.toString(), HERE, RESOURCES, cache);
  }

  private static NativeLibrary load(String backend, String path) {
    return NativeLibrary.load(backend, path, HERE, RESOURCES, LibraryCache.ofUser());
  }

  private static void assertRefused(ThrowingCallable call, String... words) {
    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(call)
        .satisfies(
            e -> {
              assertThat(e.status()).isEqualTo(Status.NO_DEVICE);
              assertThat(e).hasMessageContainingAll(words);
            });
  }
}
