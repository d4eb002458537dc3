package dev.metalstreams;

import java.io.Serializable;
import org.jspecify.annotations.Nullable;

/**
 * Two accesses to the same memory, at least one of which writes, and nothing orders the later after
 * the earlier: which of them the memory sees first is a matter of luck. Found by the setting {@code
 * hazards}. The call that throws this has encoded or mapped nothing, and both streams go on.
 */
public final class StreamRaceException extends MetalStreamsException {
  private static final long serialVersionUID = 1L;

  /** In place of a stream's index: the CPU. */
  public static final int HOST = -1;

  /**
   * One side of a race.
   *
   * @param operation {@code fill}, {@code copy}, the operation that gives the result of an
   *     executable, or the method that gave the CPU a view
   * @param writes whether it writes; a view may, unless it is read-only
   * @param stream index of the stream, {@link #HOST} for a view
   * @param value timeline value of the command buffer; 0 for a view
   * @param offset first byte, within the buffer
   * @param length in bytes
   * @param site where it was called, in code that is not this library's; null if that is not known
   * @param exact whether {@code site} is of this very call; else it is where the stream's last such
   *     operation came from whose call site was looked up (setting {@code hazards.sample})
   */
  public record Access(
      String operation,
      boolean writes,
      int stream,
      long value,
      long offset,
      long length,
      @Nullable StackTraceElement site,
      boolean exact)
      implements Serializable {

    String where() {
      return "`"
          + operation
          + "`"
          + (site == null
              ? ""
              : exact ? " at " + site : " (call site not kept; last seen at " + site + ")");
    }

    private String who() {
      return stream == HOST ? "the CPU" : "stream " + stream;
    }

    private String what() {
      return where()
          + (stream == HOST ? " lets the CPU " : " on stream " + stream + " (value " + value + ") ")
          + (stream == HOST ? (writes ? "write" : "read") : (writes ? "writes" : "reads"))
          + " bytes "
          + offset
          + " to "
          + (offset + length);
    }
  }

  private final Access earlier;
  private final Access later;

  StreamRaceException(Access earlier, Access later) {
    super(
        "race between "
            + earlier.who()
            + " and "
            + later.who()
            + ": "
            + later.what()
            + " of a buffer; "
            + earlier.what()
            + ", and nothing orders the one after the other. "
            + missing(earlier, later));
    this.earlier = earlier;
    this.later = later;
  }

  private static String missing(Access earlier, Access later) {
    if (earlier.stream == HOST) {
      return "The view from "
          + earlier.where()
          + " must be closed before "
          + later.where()
          + (later.writes ? "" : ", or be read-only");
    }
    return (later.stream == HOST ? "The CPU" : "Stream " + later.stream)
        + " must wait for an event recorded on stream "
        + earlier.stream
        + " after "
        + earlier.where();
  }

  /** The access that came first. */
  public Access earlier() {
    return earlier;
  }

  /** The access of the call that throws. */
  public Access later() {
    return later;
  }
}
