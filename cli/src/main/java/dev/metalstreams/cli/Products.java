package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.Tensor;
import java.util.SplittableRandom;

/**
 * Products of square matrices, as something to measure. Each run has a result of its own, as a
 * user's would; the last one of each thread is checked.
 */
final class Products implements AutoCloseable {

  /** When a thread waits. */
  enum Sync {
    /** For an event of its own stream. */
    EVENT("event"),
    /** For all streams. */
    DEVICE("device");

    private final String label;

    Sync(String label) {
      this.label = label;
    }

    String label() {
      return label;
    }
  }

  private static final int CHECKED = 64;

  private final Device device;
  private final int size;
  private final float[] a;
  private final float[] b;
  private final Executable executable;
  private final Findings findings;
  private final SplittableRandom random;

  Products(Device device, int size, long seed, Findings findings) {
    this.device = device;
    this.size = size;
    this.findings = findings;
    this.random = new SplittableRandom(seed);
    this.a = values();
    this.b = values();
    this.executable =
        device.compile(
            Graph.build(
                g ->
                    g.output(
                        "y",
                        g.matmul(
                            g.input("a", DType.F32, size, size),
                            g.input("b", DType.F32, size, size)))));
  }

  private float[] values() {
    float[] values = new float[size * size];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextDouble(-1, 1);
    }
    return values;
  }

  /** Multiplications and additions of one product. */
  double operations() {
    return 2.0 * size * size * size;
  }

  /**
   * A job of so many products and then one wait.
   *
   * @param every how many
   */
  ThreadTrial.Job job(int every, Sync sync) {
    DeviceStream stream = device.streams().current();
    Tensor left = device.tensor(a, size, size);
    Tensor right = device.tensor(b, size, size);
    return new ThreadTrial.Job() {
      private Tensor last = executable.run(stream, left, right);

      @Override
      public void run() {
        for (int i = 0; i < every; i++) {
          last.close();
          last = executable.run(stream, left, right);
        }
        if (sync == Sync.EVENT) {
          stream.record().await();
        } else {
          device.synchronize();
        }
      }

      @Override
      public void close() {
        check(last.toFloats());
        last.close();
        left.close();
        right.close();
      }
    };
  }

  /** Upload, product, wait and read, as one piece of work by itself. */
  void whole() {
    try (Tensor left = device.tensor(a, size, size);
        Tensor right = device.tensor(b, size, size);
        Tensor y = executable.run(left, right)) {
      check(y.toFloats());
    }
  }

  /** Some of the elements, with the bound of {@link MatmulWorkload}. */
  void check(float[] y) {
    SplittableRandom places = new SplittableRandom(size);
    double unit = (size + 1) * 0x1p-24;
    for (int i = 0; i < Math.min(CHECKED, size); i++) {
      int row = places.nextInt(size);
      int column = places.nextInt(size);
      double sum = 0;
      double magnitude = 0;
      for (int k = 0; k < size; k++) {
        double term = (double) a[row * size + k] * b[k * size + column];
        sum += term;
        magnitude += Math.abs(term);
      }
      double error = Math.abs(y[row * size + column] - sum);
      if (!(error <= unit / (1 - unit) * magnitude)) {
        findings.mismatch(
            "a product of "
                + size
                + " x "
                + size
                + " is off by "
                + error
                + " at row "
                + row
                + ", column "
                + column);
        return;
      }
    }
  }

  @Override
  public void close() {
    executable.close();
  }
}
