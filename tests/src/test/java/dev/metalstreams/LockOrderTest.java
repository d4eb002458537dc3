package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.script.Script;
import org.junit.jupiter.api.Test;

/** With the setting {@code debug}, whoever takes a lock says so, and out of order is refused. */
class LockOrderTest extends CoreTest {
  private final Device device = open(Script.immediate());
  private final DeviceStream stream = device.streams().stream(1);

  private void isRefusedUnder(int held, Runnable use, String what) {
    LockOrder order = device.lockOrder();
    order.enter(held);
    try {
      assertThatExceptionOfType(IllegalStateException.class)
          .isThrownBy(use::run)
          .withMessageContaining("takes a " + what + " lock");
    } finally {
      order.exit(held);
    }
    use.run();
  }

  @Test
  void everyLockHasItsPlaceInTheOrder() {
    for (int held : new int[] {LockOrder.REGISTRY, LockOrder.STREAM, LockOrder.MEMORY}) {
      isRefusedUnder(held, device.streams()::next, "registry");
    }
    for (int held : new int[] {LockOrder.STREAM, LockOrder.MEMORY}) {
      isRefusedUnder(held, stream::pass, "stream");
    }
    isRefusedUnder(LockOrder.MEMORY, () -> device.memory().trimTo(0), "memory");
  }

  @Test
  void inOrderTheyAreTakenTogether() {
    LockOrder order = device.lockOrder();
    order.enter(LockOrder.REGISTRY);
    order.enter(LockOrder.STREAM);
    device.memory().trimTo(0);
    order.exit(LockOrder.STREAM);
    stream.pass();
    order.exit(LockOrder.REGISTRY);
    assertThat(device.streams().next()).isNotNull();
  }

  @Test
  void withoutDebugNothingIsChecked() {
    Device unchecked = open(Script.immediate(), builder -> builder.debug(false));
    unchecked.lockOrder().enter(LockOrder.MEMORY);
    unchecked.memory().trimTo(0);
    unchecked.lockOrder().exit(LockOrder.MEMORY);
    assertThat(unchecked.lockOrder()).isSameAs(LockOrder.UNCHECKED);
  }
}
