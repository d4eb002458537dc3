package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.script.Script;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Timeout;

/**
 * Opens devices on scripted drivers, with the lock order checked, and looks after every test that
 * no rule of the driver was broken, nothing was leaked and no error was logged.
 */
@Timeout(30)
abstract class CoreTest {
  private static final Logger LOGGER = Logger.getLogger("dev.metalstreams");

  private record Opened(Script script, Device device) {}

  private final List<Opened> opened = new ArrayList<>();
  private final Complaints complaints = new Complaints();

  final Device open(Script script) {
    return open(script, builder -> builder);
  }

  final Device open(Script script, UnaryOperator<Device.Builder> with) {
    Device.Builder builder =
        Device.builder()
            .driver(script.provider())
            .debug(true)
            .set(Settings.Key.COMMIT_IDLE, "0"); // the test decides what is committed when
    Device device = with.apply(builder).open();
    opened.add(new Opened(script, device));
    return device;
  }

  /**
   * What the core logged as an error, such as a call that the driver refused where no caller is
   * told.
   */
  private static final class Complaints extends Handler {
    private final List<String> messages = Collections.synchronizedList(new ArrayList<>());
    private final List<String> warnings = Collections.synchronizedList(new ArrayList<>());

    @Override
    public void publish(LogRecord complaint) {
      if (complaint.getLevel().intValue() >= Level.SEVERE.intValue()) {
        messages.add(complaint.getMessage());
      } else if (complaint.getLevel().equals(Level.WARNING)) {
        warnings.add(complaint.getMessage());
      }
    }

    @Override
    public void flush() {}

    @Override
    public void close() {}
  }

  @BeforeEach
  void listenForComplaints() {
    LOGGER.setUseParentHandlers(false);
    LOGGER.addHandler(complaints);
  }

  /** What was logged as an error so far; taken away. */
  final List<String> takeComplaints() {
    List<String> taken = List.copyOf(complaints.messages);
    complaints.messages.clear();
    return taken;
  }

  /** What was logged as a warning so far. */
  final List<String> warnings() {
    return List.copyOf(complaints.warnings);
  }

  /** For tests that break something on purpose: nothing is checked afterwards. */
  final void forget(Device device) {
    opened.removeIf(each -> each.device == device);
  }

  @AfterEach
  void closeDevices() {
    for (Opened each : opened) {
      each.script.letRun();
      each.device.close();
      assertThat(each.script.violations()).isEmpty();
      assertThat(each.script.buffers()).as("leaked buffers").isZero();
      assertThat(each.script.executables()).as("leaked executables").isZero();
      assertThat(each.script.queues()).as("leaked queues").isEmpty();
      assertThat(each.script.closed()).as("driver closed").isTrue();
    }
    LOGGER.removeHandler(complaints);
    assertThat(complaints.messages).as("errors in the log").isEmpty();
  }

  /** The first byte, without a wait. */
  static byte peek(DeviceBuffer buffer) {
    try (HostView view = buffer.mapUnsafe()) {
      return view.bytes().get(0);
    }
  }

  /** The first byte, once no work uses the buffer. */
  static byte read(DeviceBuffer buffer) {
    try (HostView view = buffer.map()) {
      return view.bytes().get(0);
    }
  }

  static void write(DeviceBuffer buffer, int value) {
    try (HostView view = buffer.map()) {
      ByteBuffer bytes = view.bytes();
      for (int i = 0; i < bytes.capacity(); i++) {
        bytes.put(i, (byte) value);
      }
    }
  }

  /** y = relu(x·w + b) of rank 2. */
  static Graph layer(long rows, long in, long out) {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, rows, in);
          Node w = g.input("w", DType.F32, out, in);
          Node b = g.input("b", DType.F32, out);
          g.output("y", g.relu(g.linear(x, w, b)));
        });
  }
}
