package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverCounters.AgxGuard;
import dev.metalstreams.driver.DriverFlag;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.MatmulPath;
import dev.metalstreams.driver.Status;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.ToIntFunction;
import org.junit.jupiter.api.Test;

/** The numbers that the driver interface repeats from the header are those of the header. */
class CodesTest {

  /** The header's constants with a prefix, without it. */
  private static Map<String, Integer> constants(String prefix) throws Exception {
    Map<String, Integer> constants = new TreeMap<>();
    for (Method method : mst_h.class.getMethods()) {
      if (method.getName().startsWith(prefix) && method.getParameterCount() == 0) {
        constants.put(method.getName().substring(prefix.length()), (Integer) method.invoke(null));
      }
    }
    return constants;
  }

  private static <E extends Enum<E>> Map<String, Integer> codes(E[] values, ToIntFunction<E> code) {
    Map<String, Integer> codes = new TreeMap<>();
    Arrays.stream(values).forEach(value -> codes.put(value.name(), code.applyAsInt(value)));
    return codes;
  }

  @Test
  void everyErrorIsAStatus() throws Exception {
    assertThat(codes(Status.values(), Status::code)).isEqualTo(constants("MST_ERROR_"));
  }

  @Test
  void deviceFlags() throws Exception {
    Map<String, Integer> flags = constants("MST_DEVICE_");
    assertThat(flags.remove("DEFAULT")).isZero();
    assertThat(codes(DriverFlag.values(), DriverFlag::bit)).isEqualTo(flags);
  }

  @Test
  void commitFlags() throws Exception {
    assertThat(constants("MST_COMMIT_"))
        .isEqualTo(
            Map.of(
                "DEFAULT", Driver.COMMIT_DEFAULT,
                "WAITING", Driver.COMMIT_WAITING,
                "CONTINUE", Driver.COMMIT_CONTINUE));
  }

  @Test
  void encodeFlags() throws Exception {
    assertThat(constants("MST_ENCODE_"))
        .isEqualTo(Map.of("DEFAULT", Driver.ENCODE_DEFAULT, "SOLE", Driver.ENCODE_SOLE));
  }

  @Test
  void matmulPaths() throws Exception {
    assertThat(codes(MatmulPath.values(), MatmulPath::code)).isEqualTo(constants("MST_PATH_"));
    for (MatmulPath path : MatmulPath.values()) {
      assertThat(MatmulPath.of(path.code())).isSameAs(path);
    }
  }

  @Test
  void statesOfTheGuard() throws Exception {
    assertThat(codes(AgxGuard.values(), AgxGuard::code)).isEqualTo(constants("MST_AGX_GUARD_"));
    for (AgxGuard state : AgxGuard.values()) {
      assertThat(AgxGuard.of(state.code())).isSameAs(state);
    }
  }

  @Test
  void elementTypes() throws Exception {
    Map<String, Integer> all = constants("MST_");
    for (ElementType type : ElementType.values()) {
      assertThat(all).containsEntry(type.name(), type.code());
    }
  }
}
