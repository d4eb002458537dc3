package dev.metalstreams.safetensors;

import org.jspecify.annotations.Nullable;

/**
 * A file is not what it should be. The message is one sentence that names the file and the fault.
 */
public final class SafetensorsException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  SafetensorsException(String message) {
    super(message);
  }

  SafetensorsException(String message, @Nullable Throwable cause) {
    super(message, cause);
  }
}
