package dev.metalstreams.bench;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.HazardMode;
import dev.metalstreams.Tensor;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * What does Java add to an encode?
 *
 * <p>Java's side is {@link Executable#runInto(List, List)} on ready tensors: it looks the current
 * stream up, checks the tensors against the graph, takes the stream's lock, notes the uses and
 * calls {@code mst_encode_executable}. C's side ({@code mst_bench encode}) is that call alone, on
 * the same graph: the sum of two numbers.
 *
 * <p>Both encode {@value #ENCODES} runs in a row into command buffers of {@value #OPERATIONS}, and
 * both count beginning and committing these. The queue is held meanwhile: nothing of this runs
 * before the clock has stopped, so neither the device's work nor waking its workers is part of the
 * figure. Both report the median row.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@SuppressWarnings("NullAway.Init") // by open()
public class Encode {
  /** Default of the setting {@code stream.commit.operations}. */
  static final int OPERATIONS = 40;

  /**
   * As much as 15 command buffers hold: one less than the default of {@code stream.max.in.flight}.
   */
  static final int ENCODES = 15 * OPERATIONS;

  /** The setting of that name. */
  @Param("off")
  public String hazards;

  private Device device;
  private Executable sum;
  private List<Tensor> inputs;
  private List<Tensor> outputs;
  private DeviceStream stream;
  private QueueHold hold;

  /** Compiles the sum of two numbers. */
  @Setup(Level.Trial)
  public void open() {
    device =
        Device.builder()
            .backend("host")
            .hazards(HazardMode.valueOf(hazards.toUpperCase(Locale.ROOT)))
            .open();
    sum =
        device.compile(
            Graph.build(
                g -> g.output("y", g.add(g.input("a", DType.F32, 1), g.input("b", DType.F32, 1)))));
    inputs = List.of(device.tensor(new float[] {1}, 1), device.tensor(new float[] {2}, 1));
    outputs = List.of(device.empty(DType.F32, 1));
    stream = device.streams().current();
    hold = new QueueHold(stream);
  }

  /** Ends everything. */
  @TearDown(Level.Trial)
  public void close() {
    inputs.forEach(Tensor::close);
    outputs.forEach(Tensor::close);
    device.close();
  }

  /** Keeps the device from working. */
  @Setup(Level.Invocation)
  public void hold() {
    hold.hold();
  }

  /** Lets the device do what was encoded. */
  @TearDown(Level.Invocation)
  public void drain() {
    hold.release();
    stream.synchronize();
  }

  /** One row. */
  @Benchmark
  public void row() {
    for (int i = 0; i < ENCODES; i++) {
      sum.runInto(inputs, outputs);
    }
  }
}
