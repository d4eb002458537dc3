package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.script.Script;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Memory that is filled when it is closed, and looked at before it is handed out again. */
class PoisonTest extends CoreTest {
  private final Script script = Script.immediate();
  private final Device device = open(script, builder -> builder.memoryMode(MemoryMode.POISON));
  private final DeviceStream stream = device.streams().stream(1);

  /** The bytes of a buffer, kept beyond its end, as nobody may. */
  private ByteBuffer late(DeviceBuffer buffer) {
    try (HostView view = buffer.map()) {
      return view.bytes();
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 13, 99})
  void aWriteAfterTheCloseIsCaughtByTheNextTenant(int at) {
    DeviceBuffer buffer = device.allocate(100, stream);
    ByteBuffer late = late(buffer);
    buffer.close();
    late.put(at, (byte) 1);
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(() -> device.allocate(200, stream)) // of the same class
        .withMessageContaining(
            "block 1 of 256 bytes was written after it was closed, at byte " + at / 8 * 8);
    assertThat(device.memory().stats().allocated()).isZero();
    device.allocate(200, stream).close(); // filled again
  }

  @Test
  void aWriteBeyondTheEndIsCaughtToo() {
    DeviceBuffer buffer = device.allocate(100, stream);
    long handle = buffer.handle();
    buffer.close();
    device.driver().contents(handle, 250, 1).put(0, (byte) 1);
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(() -> device.allocate(100, stream))
        .withMessageContaining("at byte 248");
  }

  @Test
  void whatIsReadBeforeItIsWrittenShows() {
    for (int tenant = 0; tenant < 2; tenant++) {
      try (DeviceBuffer buffer = device.allocate(100, stream)) {
        assertThat(late(buffer).get(99)).isEqualTo((byte) 0xDB);
        stream.fill(buffer, (byte) 1);
        assertThat(read(buffer)).isEqualTo((byte) 1);
      }
    }
  }

  /** No byte buffer is as long as a block can be. */
  @Test
  void aBlockOfGigabytesIsFilledAndSearchedInParts() {
    long part = 1L << 30;
    Block block = new Block(1, 7, 2 * part + 512, 0, stream);
    Map<Long, byte[]> shown = new TreeMap<>(); // the first bytes of each part alone
    List<Integer> lengths = new ArrayList<>();
    Driver driver =
        (Driver)
            Proxy.newProxyInstance(
                Driver.class.getClassLoader(),
                new Class<?>[] {Driver.class},
                (proxy, method, arguments) -> {
                  assertThat(method.getName()).isEqualTo("contents");
                  assertThat(arguments[0]).isEqualTo(7L);
                  lengths.add((Integer) arguments[2]);
                  return ByteBuffer.wrap(
                      shown.computeIfAbsent((Long) arguments[1], start -> new byte[64]));
                });
    Poison.fill(driver, block);
    assertThat(shown).containsOnlyKeys(0L, part, 2 * part);
    assertThat(lengths).containsExactly((int) part, (int) part, 512);
    assertThat(shown.values()).allSatisfy(bytes -> assertThat(bytes).containsOnly(0xDB));
    assertThat(Poison.firstDamage(driver, block)).isEqualTo(-1);
    Objects.requireNonNull(shown.get(2 * part))[17] = 0;
    assertThat(Poison.firstDamage(driver, block)).isEqualTo(2 * part + 16);
    Objects.requireNonNull(shown.get(part))[63] = 0;
    assertThat(Poison.firstDamage(driver, block)).isEqualTo(part + 56);
  }

  @Test
  void whoUsesMemoryAsOneShouldIsLeftAlone() {
    Device busy =
        open(
            Script.automaticBuilder().seed(3).build(),
            builder -> builder.memoryMode(MemoryMode.POISON));
    SplittableRandom random = new SplittableRandom(3);
    for (int i = 0; i < 500; i++) {
      DeviceStream owner = busy.streams().stream(random.nextInt(3));
      try (DeviceBuffer buffer = busy.allocate(1 + random.nextInt(2000), owner)) {
        DeviceStream user = busy.streams().stream(random.nextInt(3));
        user.fill(buffer, (byte) i);
        if (random.nextBoolean()) {
          assertThat(read(buffer)).isEqualTo((byte) i);
        }
      }
    }
  }
}
