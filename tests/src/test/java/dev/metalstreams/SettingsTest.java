package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverFlag;
import dev.metalstreams.script.Script;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What a setting's text means, and where it may come from. */
class SettingsTest extends CoreTest {

  private static Settings of(Map<String, String> properties, Map<String, String> environment) {
    return Settings.resolve(Map.of(), properties::get, environment::get);
  }

  private static Setting named(Settings settings, String name) {
    return settings.all().stream()
        .filter(setting -> setting.name().equals(name))
        .findFirst()
        .orElseThrow();
  }

  @Test
  void thePropertyWinsOverTheEnvironment() {
    Settings settings =
        of(Map.of("metalstreams.pool.size", "5"), Map.of("MPS_STREAM_POOL_SIZE", "6"));
    assertThat(settings.poolSize).isEqualTo(5);
    assertThat(named(settings, "pool.size").source()).isEqualTo("property");
  }

  @ParameterizedTest
  @CsvSource({
    "MPS_FORCE_GRAPH_PATH, FORCE_GRAPH",
    "METALSTREAMS_METAL_PARALLEL_COMPUTE, PARALLEL_COMPUTE",
    "MST_AGX_GUARD, AGX_GUARD"
  })
  void flagsOfMetal(String environment, DriverFlag flag) {
    assertThat(of(Map.of(), Map.of(environment, "1")).flags).isEqualTo(Set.of(flag));
    assertThat(of(Map.of(), Map.of(environment, "0")).flags).isEmpty();
    assertThat(of(Map.of(), Map.of()).flags).isEmpty();
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> of(Map.of(), Map.of(environment, "yes")))
        .withMessageContaining(environment + ": 'yes' is not");
  }

  // ---- commit and continue

  private static Stream<Boolean> continued(Settings settings) {
    return Stream.of(0, 1, 31).map(settings.commitAndContinue::includes);
  }

  @Test
  void commitsContinueOnStream0UnlessSet() {
    assertThat(continued(of(Map.of(), Map.of()))).containsExactly(true, false, false);
    String name = "MPS_ENABLE_COMMIT_AND_CONTINUE";
    assertThat(continued(of(Map.of(), Map.of(name, "1")))).containsExactly(true, true, true);
    assertThat(continued(of(Map.of(), Map.of(name, "0")))).containsExactly(false, false, false);
    assertThat(named(of(Map.of(), Map.of()), "metal.commit.and.continue").value())
        .isEqualTo("stream 0");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "2", "-1", "yes", "true", "stream 0", "1.0"})
  void anythingElseIsAnErrorNamingIt(String value) {
    assertThatExceptionOfType(IllegalArgumentException.class)
        .isThrownBy(() -> of(Map.of(), Map.of("MPS_ENABLE_COMMIT_AND_CONTINUE", value)))
        .withMessage(
            "environment variable MPS_ENABLE_COMMIT_AND_CONTINUE: '%s' is not a whole number from 0"
                + " to 1",
            value);
  }

  @ParameterizedTest
  @CsvSource({"1, 2, 2", "0, 0, 0", ", 2, 0"})
  void theCommitsCarryIt(String value, int onZero, int onOne) {
    Script script = Script.immediate();
    Device device =
        open(
            script,
            builder -> value == null ? builder : builder.commitAndContinue(value.equals("1")));
    for (int index = 0; index <= 1; index++) {
      DeviceStream stream = device.streams().stream(index);
      try (DeviceBuffer buffer = device.allocate(8, stream)) {
        stream.fill(buffer, (byte) 1);
        stream.synchronize();
      }
      assertThat(script.commitFlags(stream.id()))
          .isNotEmpty()
          .allMatch(
              flags -> (flags & ~Driver.COMMIT_WAITING) == (stream.index() == 0 ? onZero : onOne));
    }
  }
}
