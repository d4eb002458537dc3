package dev.metalstreams.bindings;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Small libraries that claim to be shims, made by the C compiler for a test. */
final class CompiledShim {
  private CompiledShim() {}

  /** A library with this version and build id, and of the other functions those that are given. */
  static Path compile(
      Path folder, String name, int abiVersion, String buildId, List<String> otherFunctions)
      throws IOException, InterruptedException {
    StringBuilder c = new StringBuilder();
    c.append("int mst_abi_version(void) { return %d; }\n".formatted(abiVersion));
    c.append("const char *mst_build_id(void) { return \"%s\"; }\n".formatted(buildId));
    c.append("const char *mst_backend_name(void) { return \"metal\"; }\n");
    for (String function : otherFunctions) {
      c.append("int %s(void) { return 0; }\n".formatted(function));
    }
    return library(folder, name, c.toString());
  }

  /** A library of this source. */
  static Path library(Path folder, String name, String c) throws IOException, InterruptedException {
    Path source = Files.writeString(folder.resolve(name + ".c"), c);
    Path library = folder.resolve(Platform.current().libraryName(name));
    Process compiler =
        new ProcessBuilder("cc", "-shared", "-fPIC", "-o", library.toString(), source.toString())
            .inheritIO()
            .start();
    if (compiler.waitFor() != 0) {
      throw new IOException("the C compiler failed");
    }
    return library;
  }
}
