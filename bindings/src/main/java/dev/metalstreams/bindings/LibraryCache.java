package dev.metalstreams.bindings;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Copies of packed libraries on disk, from where the system can load them.
 *
 * <ul>
 *   <li>Copies lie in a directory named by their content, so that versions never meet, and
 *       processes of the same version share them.
 *   <li>The root is private to the user (0700, and it is checked that it is this user's): who can
 *       write there can run code as this user.
 *   <li>A copy is written under a name of its own, its hash is compared, and then it is renamed. So
 *       any number of processes may do this at once: a name is absent or its content is whole.
 *   <li>A copy that is there already is compared too, at every use. One that is damaged is
 *       replaced, which does not touch who has the old one loaded.
 *   <li>Where the user's directory cannot be used, a temporary one of this process does.
 * </ul>
 *
 * <p>Thread-safe.
 */
final class LibraryCache {
  private static final Set<PosixFilePermission> PRIVATE =
      PosixFilePermissions.fromString("rwx------");

  private final Path root;
  private @Nullable Path temporary;

  LibraryCache(Path root) {
    this.root = root;
  }

  /** The cache of the user who runs this process: the same one on every call. */
  static LibraryCache ofUser() {
    return OfUser.CACHE;
  }

  /** Where systems keep what can be made again. */
  static Path userRoot(Map<String, String> environment, String home, Platform platform) {
    String xdg = environment.getOrDefault("XDG_CACHE_HOME", "");
    Path caches;
    // The XDG specification: a relative path is to be ignored.
    if (xdg.startsWith("/")) {
      caches = Path.of(xdg);
    } else if (platform.isMac()) {
      caches = Path.of(home, "Library", "Caches");
    } else {
      caches = Path.of(home, ".cache");
    }
    return caches.resolve("metalstreams");
  }

  /**
   * Sees to it that sound copies of these files lie in one directory.
   *
   * @return the directory
   * @throws DriverException if a packed file is not what its hash says, or there is nowhere to
   *     write
   */
  synchronized Path place(List<PackedFile> files) {
    try {
      return placeUnder(root, files);
    } catch (IOException unusable) {
      try {
        return deletedOnExit(placeUnder(temporary(), files), files);
      } catch (IOException e) {
        e.addSuppressed(unusable);
        throw new DriverException(
            Status.NO_DEVICE,
            "the native libraries could be written neither to %s (%s) nor to a temporary directory (%s)"
                .formatted(root, unusable, e),
            e);
      }
    }
  }

  private static Path placeUnder(Path root, List<PackedFile> files) throws IOException {
    makePrivate(root);
    Path directory = root.resolve(key(files));
    makePrivate(directory); // it may be left over from when the root was open to others
    for (PackedFile file : files) {
      Path copy = directory.resolve(file.name());
      if (!isSound(copy, file)) {
        write(copy, file);
      }
    }
    return directory;
  }

  private static String key(List<PackedFile> files) {
    StringBuilder contents = new StringBuilder();
    for (PackedFile file : files) {
      contents.append(file.sha256()).append("  ").append(file.name()).append('\n');
    }
    return Sha256.of(contents.toString().getBytes(StandardCharsets.UTF_8)).substring(0, 32);
  }

  /** Makes a directory that this user alone may use, or sees to it that it is one. */
  private static void makePrivate(Path directory) throws IOException {
    Path parent = directory.getParent();
    if (parent != null) {
      Files.createDirectories(parent);
    }
    try {
      Files.createDirectory(directory, PosixFilePermissions.asFileAttribute(PRIVATE));
    } catch (FileAlreadyExistsException e) {
      // Made by an earlier run, or by someone else: that is what the checks below are for.
    }
    // Java has no user id; but a new file is this process's own. It tells as well that one can
    // write.
    Path own = Files.createTempFile(directory, "owner", null);
    try {
      if (!Files.getOwner(directory).equals(Files.getOwner(own))) {
        throw new IOException(directory + " belongs to another user");
      }
    } finally {
      Files.delete(own);
    }
    if (!Files.getPosixFilePermissions(directory).equals(PRIVATE)) {
      Files.setPosixFilePermissions(directory, PRIVATE);
    }
  }

  private static boolean isSound(Path copy, PackedFile file) throws IOException {
    if (!Files.isRegularFile(copy, LinkOption.NOFOLLOW_LINKS)) {
      return false;
    }
    try (InputStream in = Files.newInputStream(copy)) {
      return Sha256.of(in).equals(file.sha256());
    }
  }

  private static void write(Path copy, PackedFile file) throws IOException {
    Path part = Files.createTempFile(copy.getParent(), file.name(), ".part");
    try {
      String hash;
      try (InputStream in = file.source().openStream();
          OutputStream out = Files.newOutputStream(part)) {
        hash = Sha256.copy(in, out);
      }
      if (!hash.equals(file.sha256())) {
        throw new DriverException(
            Status.NO_DEVICE,
            "%s is damaged: its SHA-256 is %s instead of %s"
                .formatted(file.source(), hash, file.sha256()));
      }
      Files.move(part, copy, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  private Path temporary() throws IOException {
    if (temporary == null) {
      temporary = Files.createTempDirectory("metalstreams-");
      temporary.toFile().deleteOnExit();
    }
    return temporary;
  }

  private static Path deletedOnExit(Path directory, List<PackedFile> files) {
    directory.toFile().deleteOnExit();
    for (PackedFile file : files) {
      directory.resolve(file.name()).toFile().deleteOnExit();
    }
    return directory;
  }

  private static final class OfUser {
    static final LibraryCache CACHE =
        new LibraryCache(
            userRoot(System.getenv(), System.getProperty("user.home"), Platform.current()));

    private OfUser() {}
  }
}
