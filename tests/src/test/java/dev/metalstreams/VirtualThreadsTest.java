package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * 10,000 virtual threads run and await work on a device, on two carrier threads, and none pins its
 * carrier. In a JVM of its own, whose scheduler has two carriers; a recording of the flight
 * recorder counts the pins, and is shown to see one that is planted.
 */
@Timeout(120)
class VirtualThreadsTest {
  private static final int THREADS = 10_000;

  /** What the JVM with two carriers runs. */
  static final class Load {
    private Load() {}

    public static void main(String[] arguments) throws Exception {
      Path file = Path.of(arguments[0]);
      run(100); // the loading and initialising of classes pins, once, whoever does it
      try (Recording recording = new Recording()) {
        recording.enable("jdk.VirtualThreadPinned").withThreshold(Duration.ZERO).withStackTrace();
        recording.enable("jdk.VirtualThreadSubmitFailed");
        recording.start();
        if (arguments[1].equals("pin")) {
          pin();
        } else {
          System.out.println(run(THREADS) + " right");
        }
        recording.stop();
        recording.dump(file);
      }
      // Those that pull completions are platform threads; only virtual threads have carriers.
      long carriers =
          Thread.getAllStackTraces().keySet().stream()
              .filter(thread -> thread.getName().startsWith("ForkJoinPool-1-worker"))
              .count();
      System.out.println(carriers + " carriers");
    }

    /** A native frame on the stack of a virtual thread that parks: what must never happen. */
    private static void pin() throws InterruptedException {
      Thread.ofVirtual().start(Pinned::touch).join();
    }

    /** Its initialiser parks, and a class is initialised from native code. */
    private static final class Pinned {
      private static final long PARKED = park();

      private static long park() {
        try {
          Thread.sleep(Duration.ofMillis(1)); // no order is meant: it only has to park
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
        return 1;
      }

      static void touch() {
        if (PARKED != 1) {
          throw new AssertionError();
        }
      }
    }

    private static int run(int count) throws Exception {
      AtomicInteger right = new AtomicInteger();
      try (Device device = Device.builder().backend("host").workers(2).open();
          Executable layer =
              device.compile(
                  Graph.build(
                      g -> {
                        Node x = g.input("x", DType.F32, 1, 4);
                        g.output("y", g.add(x, g.relu(x)));
                      }))) {
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < count; i++) {
          int number = i;
          threads.add(
              Thread.ofVirtual()
                  .start(
                      () -> {
                        try (Tensor x = device.tensor(new float[] {number, -1, 2, 0.5f}, 1, 4);
                            Tensor y = layer.run(x)) {
                          DeviceStream stream = device.streams().current();
                          switch (number % 3) {
                            case 0 -> stream.record().await();
                            case 1 -> stream.record().toFuture().join();
                            default -> stream.synchronize();
                          }
                          float[] values = y.toFloats();
                          if (values[0] == 2f * number && values[1] == -1 && values[2] == 4) {
                            right.incrementAndGet();
                          }
                        }
                      }));
        }
        for (Thread thread : threads) {
          thread.join();
        }
      }
      return right.get();
    }
  }

  @TempDir Path folder;

  private record Outcome(String output, List<RecordedEvent> pins) {}

  private Outcome load(String what) throws Exception {
    Path recording = folder.resolve(what + ".jfr");
    Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Djdk.virtualThreadScheduler.parallelism=2",
                "-Djdk.virtualThreadScheduler.maxPoolSize=2",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty(
                    "surefire.test.class.path", System.getProperty("java.class.path")),
                Load.class.getName(),
                recording.toString(),
                what)
            .redirectErrorStream(true)
            .start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor(60, TimeUnit.SECONDS)).as(output).isTrue();
    assertThat(process.exitValue()).as(output).isZero();
    List<RecordedEvent> pins =
        RecordingFile.readAllEvents(recording).stream()
            .filter(event -> event.getEventType().getName().equals("jdk.VirtualThreadPinned"))
            .toList();
    return new Outcome(output, pins);
  }

  @Test
  void tenThousandRunAndAwaitWorkOnTwoCarriersAndNonePins() throws Exception {
    Outcome outcome = load("run");
    assertThat(outcome.output()).contains(THREADS + " right").contains("2 carriers");
    assertThat(outcome.pins()).isEmpty();
  }

  @Test
  void theRecordingSeesAPinThatIsPlanted() throws Exception {
    assertThat(load("pin").pins()).isNotEmpty();
  }
}
