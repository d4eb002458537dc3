package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.params.provider.Arguments.argumentSet;

import dev.metalstreams.conformance.Reference.Nodes;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.Status;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.assertj.core.api.Assertions;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.Arguments.ArgumentSet;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What {@code mst.h} and {@link Driver} promise: the classes that extend this one run every test on
 * every driver there is. Order and failure come from the {@link Subject}'s hooks, so that no test
 * sleeps: a test keeps its driver from running work with {@code hold}.
 */
@ParameterizedClass(name = "{0}")
@MethodSource("dev.metalstreams.conformance.Drivers#here")
@Timeout(30)
abstract class DriverConformance {
  static final long A_SECOND = TimeUnit.SECONDS.toNanos(1);
  static final long FOREVER = TimeUnit.HOURS.toNanos(1);

  @SuppressWarnings("NullAway.Init") // injected
  @Parameter
  Drivers drivers;

  Subject subject;
  Driver driver;
  Rig rig;

  @BeforeEach
  @SuppressWarnings("NullAway") // reads what is injected
  void open() {
    subject = drivers.subject();
    driver = subject.open();
    rig = new Rig(driver);
  }

  @AfterEach
  void close() {
    driver.close();
  }

  static void refused(Status status, ThrowingCallable call) {
    Assertions.assertThatExceptionOfType(DriverException.class)
        .isThrownBy(call)
        .satisfies(
            refusal -> {
              assertThat(refusal.status()).as(refusal.getMessage()).isEqualTo(status);
              assertThat(refusal.getMessage()).isNotBlank();
            });
  }

  static byte[] repeated(int value, int count) {
    byte[] bytes = new byte[count];
    Arrays.fill(bytes, (byte) value);
    return bytes;
  }

  static GraphSpec relu() {
    Nodes g = new Nodes();
    return g.output(g.relu(g.input(2))).spec();
  }

  static GraphSpec doubling() {
    Nodes g = new Nodes();
    int x = g.input(1);
    return g.output(g.sum(x, x)).spec();
  }

  static Stream<ArgumentSet> rangesOutside64() {
    return Stream.of(
        range("one byte too long", 0, 65),
        range("one byte beyond", 64, 1),
        range("negative offset", -1, 1),
        range("negative length", 0, -1),
        range("both negative", -64, -64),
        range("sum overflows", Long.MAX_VALUE, Integer.MAX_VALUE),
        range("sum wraps to a small number", -8, 16),
        range("long beyond all", 0, Long.MAX_VALUE),
        range("smallest length", 8, Long.MIN_VALUE));
  }

  private static ArgumentSet range(String name, long offset, long length) {
    return argumentSet(name, offset, length);
  }
}
