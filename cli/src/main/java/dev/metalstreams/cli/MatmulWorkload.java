package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Products of random square matrices against a reference in double precision.
 *
 * <p>The tolerance is the classical bound that holds for every order of summation, with fused
 * multiply-add or without (Higham, Accuracy and Stability of Numerical Algorithms, 3.1): a float32
 * inner product of length n is within γ·|a|·|b| of the exact one, γ = n·u / (1 − n·u), u = 2⁻²⁴.
 * The sum |a|·|b| is bounded by the product of the Euclidean norms of the row and the column, and n
 * is counted one higher for the rounding of the reference to float32. A sound device is therefore
 * never accused, while another case's result is off by thousands of times the bound.
 */
final class MatmulWorkload implements Workload {
  static final String NAME = "matmul";

  private static final int CASES = 3;
  private static final double UNIT_ROUNDOFF = 0x1p-24;

  /** Row-major square matrices. */
  private static final class Case {
    final float[] a;
    final float[] b;
    final Expected expected;

    Case(float[] a, float[] b, Expected expected) {
      this.a = a;
      this.b = b;
      this.expected = expected;
    }
  }

  private final Device device;
  private final int size;
  private final List<Case> cases = new ArrayList<>();
  private final Executable executable;

  MatmulWorkload(Device device, int size, long seed) {
    this.device = device;
    this.size = size;
    SplittableRandom random = new SplittableRandom(seed);
    for (int number = 0; number < CASES; number++) {
      float[] a = matrix(random);
      float[] b = matrix(random);
      cases.add(new Case(a, b, multiply(a, b)));
    }
    executable =
        device.compile(
            Graph.build(
                g ->
                    g.output(
                        "y",
                        g.matmul(
                            g.input("a", DType.F32, size, size),
                            g.input("b", DType.F32, size, size)))));
  }

  private float[] matrix(SplittableRandom random) {
    float[] values = new float[size * size];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextDouble(-1, 1);
    }
    return values;
  }

  private Expected multiply(float[] a, float[] b) {
    float[] values = new float[size * size];
    float[] allowed = new float[size * size];
    double terms = size + 1;
    double gamma = terms * UNIT_ROUNDOFF / (1 - terms * UNIT_ROUNDOFF);
    double[] columnNorms = columnNorms(b);
    IntStream.range(0, size)
        .parallel()
        .forEach(
            row -> {
              double[] sums = new double[size];
              double squares = 0;
              for (int k = 0; k < size; k++) {
                double factor = a[row * size + k];
                squares += factor * factor;
                for (int column = 0; column < size; column++) {
                  sums[column] += factor * b[k * size + column];
                }
              }
              double rowNorm = Math.sqrt(squares);
              for (int column = 0; column < size; column++) {
                values[row * size + column] = (float) sums[column];
                allowed[row * size + column] = (float) (gamma * rowNorm * columnNorms[column]);
              }
            });
    return new Expected(values, allowed);
  }

  private double[] columnNorms(float[] b) {
    double[] norms = new double[size];
    for (int i = 0; i < b.length; i++) {
      norms[i % size] += (double) b[i] * b[i];
    }
    for (int column = 0; column < size; column++) {
      norms[column] = Math.sqrt(norms[column]);
    }
    return norms;
  }

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public int cases() {
    return cases.size();
  }

  @Override
  public long[] resultShape() {
    return new long[] {size, size};
  }

  @Override
  public List<Tensor> upload(int number) {
    Case inputs = cases.get(number);
    Tensor a = device.tensor(inputs.a, size, size);
    try {
      return List.of(a, device.tensor(inputs.b, size, size));
    } catch (RuntimeException | Error e) {
      a.close();
      throw e;
    }
  }

  @Override
  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
    return executable.run(stream, inputs.toArray(Tensor[]::new));
  }

  @Override
  public Expected expected(int number) {
    return cases.get(number).expected;
  }

  @Override
  public void close() {
    executable.close();
  }
}
