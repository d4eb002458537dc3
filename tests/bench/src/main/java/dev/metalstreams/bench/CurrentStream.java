package dev.metalstreams.bench;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.infra.Blackhole;

/**
 * What does a thread pay to learn its current stream?
 *
 * <p>The thread has had its stream before, so no stream is assigned. Calls are made in rows, as
 * encoding calls are: entering {@code callWith} is no part of the figure, and the median row minds
 * no other process.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@SuppressWarnings("NullAway.Init") // by open()
public class CurrentStream {
  /** Calls in a row. */
  static final int CALLS = 1000;

  private Device device;
  private DeviceStream other;

  /** Opens the device. */
  @Setup(Level.Trial)
  public void open() {
    device = Device.builder().backend("host").open();
    other = device.streams().next();
  }

  /** Closes it. */
  @TearDown(Level.Trial)
  public void close() {
    device.close();
  }

  /** The thread's own stream. */
  @Benchmark
  public void own(Blackhole sink) {
    ask(sink);
  }

  /** The stream of an enclosing {@code callWith}. */
  @Benchmark
  public void scoped(Blackhole sink) {
    device.streams().runWith(other, () -> ask(sink));
  }

  private void ask(Blackhole sink) {
    for (int i = 0; i < CALLS; i++) {
      sink.consume(device.streams().current());
    }
  }
}
