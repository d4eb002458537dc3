package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import java.io.IOException;
import java.io.InputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OpenBlasTest {
  private static final Platform LINUX = new Platform("linux", "x86_64");
  private static final String FOLDER = "org/bytedeco/openblas/linux-x86_64/";

  @TempDir Path jar;

  /** The pinned hashes are those of the release that the build brings in. */
  @Test
  void theHashesAreThoseOfTheArtifact() throws IOException {
    for (PackedFile file : OpenBlas.packed(Platform.current(), Resources.ofClassPath())) {
      try (InputStream in = file.source().openStream()) {
        assertThat(Sha256.of(in)).as("%s", file.source()).isEqualTo(file.sha256());
      }
    }
  }

  @Test
  void whatIsNeededComesBeforeWhatNeedsIt() throws IOException {
    write("libopenblas.so.0", "blas");
    write("libgfortran.so.5", "fortran");
    write("libquadmath.so.0", "quad");
    release("9.9");

    assertThat(OpenBlas.packed(LINUX, this::find))
        .extracting(PackedFile::name)
        .containsExactly("libquadmath.so.0", "libgfortran.so.5", "libopenblas.so.0");
  }

  @Test
  void anotherReleaseIsTakenAsItIs() throws IOException {
    write("libopenblas.so.0", "another");
    release("9.9");

    assertThat(OpenBlas.packed(LINUX, this::find))
        .extracting(PackedFile::sha256)
        .containsExactly(Sha256.of("another".getBytes(StandardCharsets.UTF_8)));
  }

  @Test
  void aDamagedJarOfTheKnownReleaseIsRefused() throws IOException {
    write("libopenblas.so.0", "damaged");
    release(OpenBlas.RELEASE);
    LibraryCache cache = new LibraryCache(jar.resolve("cache"));

    assertThatExceptionOfType(DriverException.class)
        .isThrownBy(() -> cache.place(OpenBlas.packed(LINUX, this::find)))
        .withMessageContainingAll("libopenblas.so.0", "is damaged");
  }

  @Test
  void withoutTheJarThereIsNone() throws IOException {
    assertThat(OpenBlas.packed(LINUX, this::find)).isEmpty();
    write("libgfortran.so.5", "alone");
    assertThat(OpenBlas.packed(LINUX, this::find)).isEmpty();
  }

  private void write(String library, String content) throws IOException {
    Files.createDirectories(jar.resolve(FOLDER));
    Files.writeString(jar.resolve(FOLDER + library), content);
  }

  private void release(String version) throws IOException {
    Path folder = Files.createDirectories(jar.resolve("META-INF/maven/org.bytedeco/openblas"));
    Files.writeString(folder.resolve("pom.properties"), "version=" + version + "\n");
  }

  private @Nullable URL find(String name) {
    Path file = jar.resolve(name);
    try {
      return Files.exists(file) ? file.toUri().toURL() : null;
    } catch (MalformedURLException e) {
      throw new AssertionError(e);
    }
  }
}
