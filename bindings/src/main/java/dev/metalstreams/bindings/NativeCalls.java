package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.function.IntSupplier;

/** What calls of the C ABI have in common: handles as addresses, status codes as exceptions. */
final class NativeCalls {
  private static final int MOST_REPEATS = 3;

  private NativeCalls() {}

  /** Throws what the library says of a call that just failed on this thread. */
  static void check(int status) {
    if (status != mst_h.MST_OK()) {
      throw failure(status);
    }
  }

  /**
   * Ends an object. Nobody else would ever do it, so a refusal for want of something is not taken
   * at once; one because of the object's state is.
   */
  static void end(IntSupplier call) {
    int status = call.getAsInt();
    for (int again = 0; again < MOST_REPEATS && status != mst_h.MST_OK(); again++) {
      if (status == mst_h.MST_ERROR_INVALID_STATE()) {
        break;
      }
      status = call.getAsInt();
    }
    check(status);
  }

  static DriverException failure(int status) {
    String message = mst_h.mst_last_error().getString(0);
    Status known = Status.of(status);
    return new DriverException(known, message.isEmpty() ? "status " + status : message);
  }

  /** An opaque handle as the bindings take it. The JIT compiler leaves no object of it. */
  static MemorySegment handle(long address) {
    return MemorySegment.ofAddress(address);
  }

  static long completedValue(MemorySegment queue) {
    try {
      return (long) Critical.COMPLETED_VALUE.invokeExact(queue);
    } catch (Throwable e) {
      throw impossible(e);
    }
  }

  static long failedValue(MemorySegment queue) {
    try {
      return (long) Critical.FAILED_VALUE.invokeExact(queue);
    } catch (Throwable e) {
      throw impossible(e);
    }
  }

  private static AssertionError impossible(Throwable e) {
    return new AssertionError("a downcall throws nothing", e);
  }

  /**
   * Functions that {@code mst.h} marks as critical: a few loads, called without a change of the
   * thread's state. Linked at their first use, when the library is there.
   */
  private static final class Critical {
    static final MethodHandle COMPLETED_VALUE =
        Linker.nativeLinker()
            .downcallHandle(
                mst_h.mst_queue_completed_value$address(),
                mst_h.mst_queue_completed_value$descriptor(),
                Linker.Option.critical(false));
    static final MethodHandle FAILED_VALUE =
        Linker.nativeLinker()
            .downcallHandle(
                mst_h.mst_queue_failed_value$address(),
                mst_h.mst_queue_failed_value$descriptor(),
                Linker.Option.critical(false));

    private Critical() {}
  }
}
