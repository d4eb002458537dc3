package dev.metalstreams.bindings;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;

/**
 * A file that lies among the resources of the class path.
 *
 * @param name what it is called when it is laid out on disk
 * @param source where its content is
 * @param sha256 of its content, 64 hexadecimal digits
 */
record PackedFile(String name, URL source, String sha256) {

  /** Finds a resource, whichever jar it is in; null if there is none. */
  static @Nullable URL find(String resource) {
    return PackedFile.class.getClassLoader().getResource(resource);
  }

  /** The text of a resource, without the white space around it. */
  static String text(URL resource) {
    try (InputStream in = resource.openStream()) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8).strip();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** What a resource is called without its folders. */
  static String fileName(String resource) {
    return resource.substring(resource.lastIndexOf('/') + 1);
  }
}
