package dev.metalstreams.safetensors;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.Set;

/**
 * An open safetensors file. Immutable and safe to use from any thread.
 *
 * <p>A file is trusted in nothing. Opening reads the header alone and checks all that it says
 * against itself and against the size of the file, so that a tensor handed out is known to lie
 * inside: there is nothing left to go wrong but reading. The content is mapped, read-only, tensor
 * by tensor when asked for, so a file may be larger than memory. A file must not be shortened while
 * it is open: no mapping can defend itself against that.
 */
public final class Safetensors implements AutoCloseable {
  private final Content content;
  private final Header header;

  private Safetensors(Content content) {
    this.content = content;
    this.header = HeaderParser.parse(content);
  }

  /**
   * Opens a file.
   *
   * @throws SafetensorsException if it cannot be read or is not a sound safetensors file
   */
  public static Safetensors open(Path file) {
    String name = file.toString();
    if (!Files.exists(file)) {
      throw new SafetensorsException(name + ": there is no such file");
    }
    if (!Files.isRegularFile(file)) {
      throw new SafetensorsException(name + ": this is not a regular file");
    }
    Content content;
    try {
      FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
      content = new Content.Mapped(name, channel, channel.size());
    } catch (IOException e) {
      throw new SafetensorsException(
          name + ": cannot be opened: " + Text.oneLine(String.valueOf(e.getMessage())), e);
    }
    try {
      return new Safetensors(content);
    } catch (RuntimeException | Error e) {
      content.close();
      throw e;
    }
  }

  /**
   * Reads a file that is in memory, such as a resource.
   *
   * @param name what messages call it
   * @param bytes the whole file, from index 0 to the limit; not to be written to afterwards
   * @throws SafetensorsException if it is not a sound safetensors file
   */
  public static Safetensors of(String name, ByteBuffer bytes) {
    return new Safetensors(new Content.InMemory(name, bytes.duplicate()));
  }

  /** What messages call this file. */
  public String name() {
    return content.name();
  }

  /** The names of the tensors, in the order of the header. */
  public Set<String> names() {
    return header.tensors().keySet();
  }

  /** Whether there is a tensor of this name. */
  public boolean contains(String name) {
    return header.tensors().containsKey(name);
  }

  /**
   * The tensor of this name.
   *
   * @throws SafetensorsException if there is none
   */
  public StoredTensor tensor(String name) {
    StoredTensor tensor = header.tensors().get(name);
    if (tensor == null) {
      throw content.fault("there is no tensor " + Text.quoted(name));
    }
    return tensor;
  }

  /** Free text that came along, empty if none. */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  /**
   * Closes the file. Buffers that were given stay valid; tensors not yet read can no longer be.
   * Idempotent.
   */
  @Override
  public void close() {
    content.close();
  }
}
