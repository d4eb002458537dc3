package dev.metalstreams.bench;

import dev.metalstreams.DeviceStream;
import dev.metalstreams.bindings.abi.mst_test_h;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Field;

/**
 * Keeps the host shim from starting what a stream commits. The library itself has no such thing.
 */
final class QueueHold {
  private final MemorySegment queue;

  QueueHold(DeviceStream stream) {
    try {
      Field handle = DeviceStream.class.getDeclaredField("queue");
      handle.setAccessible(true);
      queue = MemorySegment.ofAddress(handle.getLong(stream));
    } catch (ReflectiveOperationException e) {
      throw new LinkageError("DeviceStream keeps its queue elsewhere", e);
    }
  }

  void hold() {
    check(mst_test_h.mst_test_hold(queue));
  }

  void release() {
    check(mst_test_h.mst_test_release(queue));
  }

  private static void check(int status) {
    if (status != 0) {
      throw new IllegalStateException("the hook failed: status " + status);
    }
  }
}
