package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.script.Script;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What Flight Recorder is told of memory. */
class MemoryEventsTest extends CoreTest {
  private static final String PREFIX = "dev.metalstreams.Memory";

  private final Script script = Script.manual();
  private final Device device =
      open(
          script,
          builder ->
              builder.parts(
                  new Parts() {
                    @Override
                    boolean completionThread() {
                      return false; // drained by hand, so that the order is known
                    }
                  }));
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceStream other = device.streams().stream(2);

  private void everything() {
    DeviceBuffer buffer = device.allocate(1000, stream);
    other.fill(buffer, (byte) 1);
    other.flush();
    buffer.close(); // asked for now, done when the other stream is past
    script.runAll();
    device.completions().drain(0);
    device.memory().trimTo(0);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(1L << 40, stream));
  }

  private static List<RecordedEvent> recorded(Path file, Recording recording) throws IOException {
    recording.stop();
    recording.dump(file);
    return RecordingFile.readAllEvents(file).stream()
        .filter(event -> event.getEventType().getName().startsWith(PREFIX))
        .sorted((a, b) -> a.getStartTime().compareTo(b.getStartTime()))
        .toList();
  }

  @Test
  void everyStepOfABlocksLifeIsAnEvent(@TempDir Path folder) throws Exception {
    try (Recording recording = new Recording()) {
      for (String event :
          List.of("Allocate", "FreeRequested", "FreeCompleted", "Trim", "OutOfMemory")) {
        recording.enable(PREFIX + event);
      }
      recording.start();
      everything();
      List<RecordedEvent> events = recorded(folder.resolve("memory.jfr"), recording);
      assertThat(events)
          .extracting(event -> event.getEventType().getName().substring(PREFIX.length()))
          .containsExactly("Allocate", "FreeRequested", "FreeCompleted", "Trim", "OutOfMemory");
      for (RecordedEvent event : events.subList(0, 3)) {
        assertThat(event.getLong("block")).isEqualTo(1);
        assertThat(event.getLong("bytes")).isEqualTo(1024);
        assertThat(event.getInt("stream")).isEqualTo(1);
      }
      assertThat(events.get(4).getLong("bytes")).isEqualTo(1L << 40);
    }
  }

  @Test
  void whatIsNotAskedForIsNotRecorded(@TempDir Path folder) throws Exception {
    try (Recording recording = new Recording()) {
      for (String event :
          List.of("Allocate", "FreeRequested", "FreeCompleted", "Trim", "OutOfMemory")) {
        recording.disable(PREFIX + event);
      }
      recording.start();
      everything();
      assertThat(recorded(folder.resolve("memory.jfr"), recording)).isEmpty();
    }
  }
}
