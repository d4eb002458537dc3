import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.spi.ToolProvider;
import java.util.zip.ZipFile;

/**
 * Adds a module's descriptor to its jar. A build step, run from its source by the JDK that compiled the
 * module: the jar plugin would read the descriptor with the JVM that Maven runs on, which may be older.
 * A jar that has the descriptor already is left alone, so that nothing is compiled again for its sake.
 */
class AddModuleDescriptor {
  private static final String DESCRIPTOR = "module-info.class";

  /** Arguments: the jar, the folder of classes, the module's version, the time of the jar's entries. */
  public static void main(String[] args) throws IOException {
    Path jar = Path.of(args[0]);
    Path descriptor = Path.of(args[1], DESCRIPTOR);
    if (isThere(jar, descriptor)) {
      return;
    }
    int status =
        ToolProvider.findFirst("jar")
            .orElseThrow()
            .run(
                System.out,
                System.err,
                "--update",
                "--file=" + jar,
                "--module-version=" + args[2],
                "--date=" + args[3],
                "-C",
                args[1],
                DESCRIPTOR);
    System.exit(status);
  }

  private static boolean isThere(Path jar, Path descriptor) throws IOException {
    try (ZipFile zip = new ZipFile(jar.toFile())) {
      return zip.getEntry(DESCRIPTOR) != null
          && Files.getLastModifiedTime(jar).compareTo(Files.getLastModifiedTime(descriptor)) >= 0;
    }
  }
}
