package dev.metalstreams.bindings;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;

/** Finds the files that travel with the code, in whichever jar they are. */
@FunctionalInterface
interface Resources {

  /** Where a resource is; null if there is none of this name. */
  @Nullable URL find(String name);

  /** Those of the class loader that has loaded the bindings. */
  static Resources ofClassPath() {
    return Resources.class.getClassLoader()::getResource;
  }

  /** The text of a resource, without the white space around it. */
  static String text(URL resource) {
    try (InputStream in = resource.openStream()) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8).strip();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
