package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The race detector on the host shim, with many threads. */
@Timeout(120)
class HazardStressTest {
  private static final int THREADS = 8;
  private static final int BYTES = 1 << 16;

  private interface Work {
    void run(DeviceStream stream, Random random) throws Exception;
  }

  /** Runs it so often on each of some threads, on a stream each. */
  private static void onThreads(Device device, int times, Work work) throws Exception {
    List<Background<Boolean>> threads = new ArrayList<>();
    for (int i = 0; i < THREADS; i++) {
      int number = i;
      DeviceStream stream = device.streams().stream(i % device.streams().size());
      threads.add(
          Background.run(
              () -> {
                Random random = new Random(number);
                for (int n = 0; n < times; n++) {
                  work.run(stream, random);
                }
              }));
    }
    for (Background<Boolean> thread : threads) {
      thread.get();
    }
  }

  private static byte uniform(DeviceBuffer buffer) {
    try (HostView view = buffer.mapReadOnly()) {
      byte first = view.bytes().get(0);
      for (int i = 0; i < BYTES; i += 61) {
        assertThat(view.bytes().get(i)).as("byte %d", i).isEqualTo(first);
      }
      return first;
    }
  }

  private record Parcel(DeviceBuffer buffer, DeviceEvent written, byte value) {}

  /** Buffers go from stream to stream with their event; all read the same weights at all times. */
  @Test
  void aCorrectProgramHasNoRace() throws Exception {
    try (Device device =
        Device.builder()
            .backend("host")
            .workers(2)
            .poolSize(6) // two streams are shared by two threads
            .hazards(HazardMode.DETECT)
            .debug(true)
            .open()) {
      ConcurrentLinkedQueue<Parcel> post = new ConcurrentLinkedQueue<>();
      DeviceBuffer weights = device.allocate(BYTES, device.streams().stream(0));
      device.streams().stream(0).fill(weights, (byte) 42);
      device.synchronize();
      onThreads(
          device,
          300,
          (stream, random) -> {
            byte value = (byte) random.nextInt();
            DeviceBuffer made = device.allocate(BYTES, stream);
            stream.copy(weights, 0, made, 0, BYTES);
            stream.fill(made, value);
            post.add(new Parcel(made, stream.record(), value));
            if (random.nextInt(8) == 0) {
              assertThat(uniform(weights)).isEqualTo((byte) 42);
            }
            Parcel got = post.poll();
            if (got != null) {
              if (random.nextBoolean()) {
                stream.waitFor(got.written);
              } else {
                got.written.await();
              }
              try (DeviceBuffer result = device.allocate(BYTES, stream)) {
                stream.copy(got.buffer, 0, result, 0, BYTES);
                got.buffer.close();
                assertThat(uniform(result)).isEqualTo(got.value);
              }
            }
          });
      HazardStats stats = device.hazards();
      assertThat(stats.races()).isZero();
      assertThat(stats.operations()).isGreaterThan(THREADS * 600);
      weights.close();
      post.forEach(parcel -> parcel.buffer.close());
    }
  }

  /** Nobody waits for anybody, and yet no copy is torn. */
  @Test
  void orderKeepsCarelessThreadsApart() throws Exception {
    try (Device device =
        Device.builder()
            .backend("host")
            .workers(2)
            .poolSize(THREADS)
            .hazards(HazardMode.ORDER)
            .debug(true)
            .open()) {
      DeviceBuffer shared = device.allocate(BYTES, device.streams().stream(0));
      device.streams().stream(0).fill(shared, (byte) 0);
      onThreads(
          device,
          200,
          (stream, random) -> {
            if (random.nextBoolean()) {
              stream.fill(shared, (byte) random.nextInt());
            } else {
              try (DeviceBuffer mine = device.allocate(BYTES, stream)) {
                stream.copy(shared, 0, mine, 0, BYTES);
                uniform(mine);
              }
            }
          });
      assertThat(device.hazards().waits()).isPositive();
      assertThat(device.hazards().races()).isZero();
      shared.close();
    }
  }
}
