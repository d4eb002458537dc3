package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class InfoCommandTest {

  @AfterEach
  void clearProperties() {
    System.clearProperty("metalstreams.library");
    System.clearProperty("metalstreams.pool.size");
  }

  @Test
  void json() {
    CommandRun run = CommandRun.line("info --backend host --json");
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("backend", "host")
        .containsEntry("pool.size", 32.0)
        .containsEntry("abi", 1.0)
        .containsEntry("settings.0.name", "backend")
        .containsEntry("settings.0.value", "host")
        .containsEntry("settings.0.source", "builder")
        .containsEntry("settings.1.source", "default")
        .containsEntry("counters.matmuls_by_graph", 0.0)
        .containsEntry("counters.matmuls_by_ndarray", 0.0)
        .containsEntry("counters.agx_guard", "off")
        .containsEntry("counters.agx_forced_ends", 0.0)
        .containsKeys(
            "version",
            "device.name",
            "device.family",
            "device.max_buffer_bytes",
            "device.max_in_flight",
            "math",
            "library",
            "build_id",
            "jvm.version",
            "os.arch");
  }

  @Test
  void settingsNameTheirSource() {
    System.setProperty("metalstreams.pool.size", "5");
    CommandRun run = CommandRun.line("info --backend host --json");
    assertThat(run.json())
        .containsEntry("pool.size", 5.0)
        .containsEntry("settings.2.source", "property");
  }

  @Test
  void table() {
    CommandRun run = CommandRun.line("info --backend host");
    assertThat(run.status()).isZero();
    assertThat(run.out())
        .containsPattern("agx guard +off")
        .contains("0 by the CPU")
        .contains("backend", "host", "32 streams", "pool.size", "MPS_STREAM_POOL_SIZE", "default");
  }

  @Test
  void memoryAsJson() {
    CommandRun run = CommandRun.line("info --backend host --memory --json");
    assertThat(run.err()).isEmpty();
    assertThat(run.json())
        .containsEntry("memory.stats.allocated.bytes.all.current", 0.0)
        .containsEntry("memory.stats.reserved.count.large.peak", 0.0)
        .containsEntry("memory.stats.num_ooms", 0.0);
    assertThat(CommandRun.line("info --backend host --json").json())
        .doesNotContainKey("memory.stats.num_ooms");
  }

  @Test
  void memoryAsTables() {
    CommandRun run = CommandRun.line("info --backend host --memory");
    assertThat(run.status()).isZero();
    assertThat(run.out())
        .contains("total out", "requested", "out of memory", "pending by stream", "(no blocks)");
  }

  @Test
  void memoryInUse() {
    ByteArrayOutputStream text = new ByteArrayOutputStream();
    try (Device device = Device.builder().backend("host").memoryHistory(10).open()) {
      DeviceStream stream = device.streams().stream(3);
      device.allocate(3 << 20, stream).close();
      try (DeviceBuffer buffer = device.allocate(1000, stream)) {
        MemoryReport.print(device.memory(), new PrintStream(text, true, StandardCharsets.UTF_8));
        assertThat(buffer.isClosed()).isFalse();
      }
    }
    assertThat(text.toString(StandardCharsets.UTF_8))
        .containsPattern("allocated +small +1\\.0 KiB +1\\.0 KiB")
        .containsPattern("allocated +large +0 B +3\\.0 MiB")
        .containsPattern("3 +in_use +1 +1\\.0 KiB")
        .containsPattern("3 +cached +1 +3\\.0 MiB")
        .containsSubsequence("device_allocate", "allocate", "free_requested", "free_completed");
  }

  @Test
  void malformedSetting() {
    System.setProperty("metalstreams.pool.size", "many");
    CommandRun.line("info")
        .assertRefused("metalstreams.pool.size: 'many' is not a whole number from 1 to 1024");
  }

  @Test
  void noBackend() {
    System.setProperty("metalstreams.library", "/no/such/library");
    for (String command : new String[] {"info", "stress", "infer"}) {
      CommandRun run = CommandRun.line(command);
      assertThat(run.status()).isEqualTo(3);
      assertThat(run.out()).isEmpty();
      assertThat(run.err())
          .contains("no usable backend", "/no/such/library", "--backend host")
          .doesNotContain("\tat ");
    }
  }

  @Test
  void noBackendAsJson() {
    System.setProperty("metalstreams.library", "/no/such/library");
    CommandRun run = CommandRun.line("info --json");
    assertThat(run.status()).isEqualTo(3);
    assertThat(run.json()).containsEntry("ok", false).containsKeys("backend", "error", "hint");
  }
}
