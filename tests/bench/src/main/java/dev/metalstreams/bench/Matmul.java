package dev.metalstreams.bench;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.Tensor;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
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

/**
 * How much of the device's throughput does Java reach?
 *
 * <p>Each thread, on its own stream, multiplies two 64×64 matrices and waits for the product, again
 * and again; {@code mst_bench matmul} does the same from C, through the same library with the same
 * BLAS. A thread drains completions there too: the ABI asks it of every user.
 */
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
public class Matmul {
  private static final int SIZE = 64;

  /** Shared by the threads. */
  @State(Scope.Benchmark)
  @SuppressWarnings("NullAway.Init") // by open()
  public static class Shared {
    private Device device;
    private Executable product;
    private final List<Tensor> tensors = new CopyOnWriteArrayList<>();

    /** Compiles the product. */
    @Setup(Level.Trial)
    public void open() {
      device = Device.builder().backend("host").open();
      product =
          device.compile(
              Graph.build(
                  g ->
                      g.output(
                          "y",
                          g.matmul(
                              g.input("a", DType.F32, SIZE, SIZE),
                              g.input("b", DType.F32, SIZE, SIZE)))));
    }

    /** Ends everything. */
    @TearDown(Level.Trial)
    public void close() {
      tensors.forEach(Tensor::close);
      device.close();
    }
  }

  /** What a thread has of its own. */
  @State(Scope.Thread)
  @SuppressWarnings("NullAway.Init") // by upload()
  public static class Own {
    private DeviceStream stream;
    private List<Tensor> inputs;
    private List<Tensor> outputs;

    /** Gets a stream, and tensors on it. */
    @Setup(Level.Trial)
    public void upload(Shared shared) {
      float[] values = new float[SIZE * SIZE];
      for (int i = 0; i < values.length; i++) {
        values[i] = i % 7 / 7f;
      }
      stream = shared.device.streams().current();
      Tensor a = shared.device.tensor(values, SIZE, SIZE);
      Tensor b = shared.device.tensor(values, SIZE, SIZE);
      Tensor y = shared.device.empty(DType.F32, SIZE, SIZE);
      inputs = List.of(a, b);
      outputs = List.of(y);
      shared.tensors.addAll(List.of(a, b, y));
    }
  }

  /** Into the same tensor each time, as C does. */
  @Benchmark
  public void runAndWait(Shared shared, Own own) {
    shared.product.runInto(own.inputs, own.outputs);
    own.stream.synchronize();
  }

  /**
   * Into a new tensor each time, as users do. C has no twin of this: it has no memory to recycle.
   */
  @Benchmark
  public void runAnewAndWait(Shared shared, Own own) {
    Tensor y = shared.product.run(own.stream, own.inputs.get(0), own.inputs.get(1));
    own.stream.synchronize();
    y.close();
  }
}
