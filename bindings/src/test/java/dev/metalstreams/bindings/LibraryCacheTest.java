package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LibraryCacheTest {
  private static final byte[] FIRST =
      "the first library".repeat(5000).getBytes(StandardCharsets.UTF_8);
  private static final byte[] SECOND = "the second library".getBytes(StandardCharsets.UTF_8);

  @TempDir Path folder;
  private Path root;
  private List<PackedFile> files;

  @BeforeEach
  void pack() throws IOException {
    root = folder.resolve("caches/metalstreams");
    files = List.of(packed("first.so", FIRST), packed("second.so", SECOND));
  }

  @Test
  void copiesLieInAPrivateDirectoryNamedByTheirContent() throws IOException {
    Path directory = new LibraryCache(root).place(files);

    assertThat(directory.getParent()).isEqualTo(root);
    assertThat(directory.getFileName().toString()).matches("[0-9a-f]{32}");
    assertThat(Files.getPosixFilePermissions(root))
        .isEqualTo(PosixFilePermissions.fromString("rwx------"));
    assertSound(directory);
    assertThat(new LibraryCache(root).place(List.of(packed("first.so", SECOND))))
        .isNotEqualTo(directory);
  }

  @Test
  void aSecondUseWritesNothing() throws IOException {
    Path copy = new LibraryCache(root).place(files).resolve("first.so");
    Object before = Files.getAttribute(copy, "unix:ino");

    new LibraryCache(root).place(files);

    assertThat(Files.getAttribute(copy, "unix:ino")).isEqualTo(before);
  }

  @Test
  void aDamagedCopyIsReplaced() throws IOException {
    Path copy = new LibraryCache(root).place(files).resolve("first.so");
    byte[] damaged = FIRST.clone();
    damaged[FIRST.length / 2] ^= 1;
    Files.write(copy, damaged);
    Object before = Files.getAttribute(copy, "unix:ino");

    assertSound(new LibraryCache(root).place(files));
    // Another file under the same name: who has loaded the old one keeps it.
    assertThat(Files.getAttribute(copy, "unix:ino")).isNotEqualTo(before);
  }

  @Test
  void aTruncatedCopyIsReplaced() throws IOException {
    Path copy = new LibraryCache(root).place(files).resolve("first.so");
    Files.write(copy, new byte[0]);

    assertSound(new LibraryCache(root).place(files));
  }

  @Test
  void aLinkInPlaceOfACopyIsReplaced() throws IOException {
    Path copy = new LibraryCache(root).place(files).resolve("first.so");
    Path elsewhere = Files.write(folder.resolve("elsewhere"), FIRST);
    Files.delete(copy);
    Files.createSymbolicLink(copy, elsewhere);

    assertSound(new LibraryCache(root).place(files));
    assertThat(copy).isRegularFile().satisfies(c -> assertThat(Files.isSymbolicLink(c)).isFalse());
  }

  @Test
  void aDirectoryThatOthersCouldWriteToIsShut() throws IOException {
    Files.createDirectories(root);
    Files.setPosixFilePermissions(root, PosixFilePermissions.fromString("rwxrwxrwx"));

    Path directory = new LibraryCache(root).place(files);
    Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxrwxrwx"));
    new LibraryCache(root).place(files);

    assertThat(List.of(root, directory))
        .extracting(Files::getPosixFilePermissions)
        .containsOnly(PosixFilePermissions.fromString("rwx------"));
  }

  @Test
  void whereTheRootCannotBeMadeATemporaryDirectoryServes() throws IOException {
    Files.writeString(folder.resolve("caches"), "a file where a directory should be");
    LibraryCache cache = new LibraryCache(root);

    Path directory = cache.place(files);

    assertThat(directory.getParent()).isNotEqualTo(root);
    assertThat(Files.getPosixFilePermissions(directory.getParent()))
        .isEqualTo(PosixFilePermissions.fromString("rwx------"));
    assertSound(directory);
    assertThat(cache.place(files)).isEqualTo(directory);
  }

  @Test
  void aPackedFileThatIsNotWhatItsHashSaysIsRefused() {
    PackedFile good = files.getFirst();
    PackedFile bad = new PackedFile(good.name(), good.source(), "0".repeat(64));

    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> new LibraryCache(root).place(List.of(bad)))
        .withMessageContainingAll(good.source().toString(), "is damaged", good.sha256());
    assertThat(everythingUnder(root)).noneMatch(Files::isRegularFile);
  }

  /**
   * As many processes would do it: each has a cache of its own, and they share the directory alone.
   */
  @Test
  void manyMayPlaceTheSameFilesAtOnce() throws Exception {
    int users = 16;
    CyclicBarrier start = new CyclicBarrier(users);
    try (ExecutorService executor = Executors.newFixedThreadPool(users)) {
      for (int round = 0; round < 20; round++) {
        Path shared = folder.resolve("round" + round);
        List<Future<?>> placed = new ArrayList<>();
        for (int i = 0; i < users; i++) {
          placed.add(
              executor.submit(
                  () -> {
                    start.await();
                    assertSound(new LibraryCache(shared).place(files));
                    return null;
                  }));
        }
        for (Future<?> each : placed) {
          each.get();
        }
        assertThat(everythingUnder(shared))
            .filteredOn(Files::isRegularFile)
            .extracting(file -> file.getFileName().toString())
            .containsExactlyInAnyOrder("first.so", "second.so");
      }
    }
  }

  @Test
  void theRootIsWhereTheSystemKeepsCaches() {
    Platform linux = new Platform("linux", "x86_64");
    Platform mac = new Platform("macos", "aarch64");
    assertThat(LibraryCache.userRoot(Map.of(), "/home/ada", linux))
        .hasToString("/home/ada/.cache/metalstreams");
    assertThat(LibraryCache.userRoot(Map.of(), "/Users/ada", mac))
        .hasToString("/Users/ada/Library/Caches/metalstreams");
    assertThat(LibraryCache.userRoot(Map.of("XDG_CACHE_HOME", "/var/tmp/ada"), "/home/ada", linux))
        .hasToString("/var/tmp/ada/metalstreams");
    assertThat(LibraryCache.userRoot(Map.of("XDG_CACHE_HOME", "relative"), "/home/ada", linux))
        .hasToString("/home/ada/.cache/metalstreams");
  }

  private PackedFile packed(String name, byte[] content) throws IOException {
    String hash = Sha256.of(content);
    Path source = Files.write(folder.resolve("packed-" + hash), content);
    return new PackedFile(name, source.toUri().toURL(), hash);
  }

  private static void assertSound(Path directory) {
    assertThat(directory.resolve("first.so")).hasBinaryContent(FIRST);
    assertThat(directory.resolve("second.so")).hasBinaryContent(SECOND);
  }

  private static List<Path> everythingUnder(Path root) {
    try (Stream<Path> files = Files.walk(root)) {
      return files.toList();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }
}
