package dev.metalstreams.safetensors;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/** The bytes of a file, wherever they lie, and the file's name for messages. */
sealed interface Content {

  /** As messages name it. */
  String name();

  /** How many bytes there are. */
  long size();

  /** Gives a read-only view of a range that lies within {@link #size}. */
  ByteBuffer read(long offset, int length);

  /** Ends the access; views that were given stay valid. */
  void close();

  /** Makes the exception for a fault of this file. */
  default SafetensorsException fault(String fault) {
    return new SafetensorsException(name() + ": " + fault);
  }

  /** Bytes in memory. */
  record InMemory(String name, ByteBuffer bytes) implements Content {
    @Override
    public long size() {
      return bytes.limit();
    }

    @Override
    public ByteBuffer read(long offset, int length) {
      return bytes.slice(Math.toIntExact(offset), length).asReadOnlyBuffer();
    }

    @Override
    public void close() {
      // Memory belongs to the collector.
    }
  }

  /**
   * A file, of which each range is mapped on its own: one mapping ends at 2 GiB, a file need not.
   */
  record Mapped(String name, FileChannel channel, long size) implements Content {
    @Override
    public ByteBuffer read(long offset, int length) {
      if (length == 0) {
        return ByteBuffer.allocate(0).asReadOnlyBuffer();
      }
      try {
        return channel.map(FileChannel.MapMode.READ_ONLY, offset, length);
      } catch (IOException e) {
        throw new SafetensorsException(
            name + ": cannot be read: " + Text.oneLine(String.valueOf(e.getMessage())), e);
      }
    }

    @Override
    public void close() {
      try {
        channel.close();
      } catch (IOException e) {
        throw new SafetensorsException(
            name + ": cannot be closed: " + Text.oneLine(String.valueOf(e.getMessage())), e);
      }
    }
  }
}
