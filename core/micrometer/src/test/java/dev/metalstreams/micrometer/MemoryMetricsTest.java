package dev.metalstreams.micrometer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatNullPointerException;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.MemoryStats;
import dev.metalstreams.OutOfDeviceMemoryException;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.search.RequiredSearch;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class MemoryMetricsTest {
  private static final long MIB = 1 << 20;

  private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
  private final Device device =
      Device.builder().backend("host").mathLibrary("builtin").workers(1).poolSize(4).open();
  private final DeviceStream stream = device.streams().stream(1);

  @AfterEach
  void close() {
    device.close();
  }

  private RequiredSearch find(String name, String... tags) {
    return registry.get("metalstreams.memory" + name).tags(tags);
  }

  private double bytes(String figure, String pool) {
    return find("", "figure", figure, "pool", pool).gauge().value();
  }

  @Test
  void tellsWhatTheMemoryHolds() {
    new MemoryMetrics(device).bindTo(registry);
    DeviceBuffer small = device.allocate(1000, stream);
    DeviceBuffer large = device.allocate(2 * MIB, stream);
    assertThat(bytes("requested", "small")).isEqualTo(1000);
    assertThat(bytes("allocated", "small")).isEqualTo(1024);
    assertThat(bytes("allocated", "large")).isEqualTo(2 * MIB);
    assertThat(bytes("active", "large")).isEqualTo(2 * MIB);
    large.close();
    assertThat(bytes("allocated", "large")).isZero();
    assertThat(bytes("reserved", "large")).isEqualTo(2 * MIB);
    assertThat(find(".peak", "figure", "allocated", "pool", "all").gauge().value())
        .isEqualTo(2 * MIB + 1024);
    assertThat(find(".blocks", "figure", "allocated", "pool", "small").gauge().value()).isOne();
    assertThat(find(".blocks", "figure", "reserved", "pool", "large").gauge().value()).isOne();
    assertThat(find(".blocks.peak", "figure", "allocated", "pool", "all").gauge().value())
        .isEqualTo(2);
    assertThat(find(".allocations").functionCounter().count()).isEqualTo(2);
    assertThat(find(".device.allocations").functionCounter().count()).isEqualTo(2);
    device.memory().emptyCache();
    assertThat(find(".device.frees").functionCounter().count()).isEqualTo(1);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(Long.MAX_VALUE));
    assertThat(find(".out.of.memory").functionCounter().count()).isEqualTo(1);
    small.close();
  }

  @Test
  void thePoolsAddUpToTheWhole() {
    new MemoryMetrics(device).bindTo(registry);
    try (DeviceBuffer small = device.allocate(1000, stream);
        DeviceBuffer large = device.allocate(2 * MIB, stream)) {
      double sum =
          registry.get("metalstreams.memory").tag("figure", "allocated").gauges().stream()
              .mapToDouble(gauge -> gauge.value())
              .sum();
      assertThat(sum).isEqualTo((double) device.memory().stats().allocated());
      assertThat(sum).isEqualTo((double) (1024 + large.byteSize()));
      assertThat(small.isClosed()).isFalse();
    }
  }

  @Test
  void everyStreamHasItsPendingBytes() {
    new MemoryMetrics(device).bindTo(registry);
    assertThat(registry.get("metalstreams.memory.pending").gauges()).hasSize(4);
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(2 * MIB, stream);
    other.fill(buffer, (byte) 1); // is not submitted, so it is under way for sure
    buffer.close();
    assertThat(find(".pending", "stream", "1").gauge().value()).isEqualTo(2 * MIB);
    assertThat(find(".pending", "stream", "2").gauge().value()).isZero();
    other.synchronize();
  }

  @Test
  void everyEventIsCounted() {
    new MemoryMetrics(device).bindTo(registry);
    MemoryStats stats = device.memory().stats();
    for (String name : new String[] {"retries", "steals", "leaks"}) {
      assertThat(find("." + name).functionCounter().count()).isZero();
    }
    assertThat(stats.retries() + stats.steals() + stats.leaks()).isZero();
  }

  @Test
  void tagsTellDevicesApart() {
    new MemoryMetrics(device, Tags.of("device", "a")).bindTo(registry);
    assertThat(registry.getMeters())
        .isNotEmpty()
        .extracting(Meter::getId)
        .allSatisfy(id -> assertThat(id.getTag("device")).isEqualTo("a"));
  }

  @Test
  void outlivesTheDevice() {
    new MemoryMetrics(device).bindTo(registry);
    device.allocate(1000, stream).close();
    device.close();
    assertThat(bytes("reserved", "small")).isZero();
    assertThat(find(".allocations").functionCounter().count()).isEqualTo(1);
  }

  @Test
  @SuppressWarnings("NullAway") // nulls are what is tested
  void refusesNull() {
    assertThatNullPointerException().isThrownBy(() -> new MemoryMetrics(null));
    assertThatNullPointerException().isThrownBy(() -> new MemoryMetrics(device, null));
    assertThatNullPointerException().isThrownBy(() -> new MemoryMetrics(device).bindTo(null));
  }
}
