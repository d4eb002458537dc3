package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A shipped digit classifier on batches of the shipped images, against the logits that PyTorch
 * gave.
 */
final class DigitsWorkload implements Workload {
  private static final int BATCH = 32;

  private final Device device;
  private final String name;
  private final Model model;
  private final Samples samples;
  private final List<Expected> expected = new ArrayList<>();
  private final Executable executable;

  DigitsWorkload(Device device, String name, Architecture architecture) {
    this.device = device;
    this.name = name;
    model = architecture.read(architecture.shipped());
    samples =
        Samples.read(
            Shipped.digits(),
            model.inputs(),
            model.outputs(),
            List.of(architecture.label() + ".logits"));
    float[] logits = samples.logits().orElseThrow();
    for (int number = 0; number < Math.ceilDiv(samples.count(), BATCH); number++) {
      int from = first(number) * model.outputs();
      float[] values = Arrays.copyOfRange(logits, from, from + BATCH * model.outputs());
      float[] allowed = new float[values.length];
      for (int i = 0; i < values.length; i++) {
        allowed[i] = Tolerance.around(values[i]);
      }
      expected.add(new Expected(values, allowed));
    }
    executable = device.compile(model.graph(BATCH));
  }

  /**
   * The first image of a case. The last case overlaps the one before: all batches are full, and
   * every image is in one.
   */
  private int first(int number) {
    return Math.min(number * BATCH, samples.count() - BATCH);
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public int cases() {
    return expected.size();
  }

  @Override
  public long[] resultShape() {
    return new long[] {BATCH, model.outputs()};
  }

  @Override
  public List<Tensor> upload(int number) {
    return List.of(device.tensor(samples.slice(first(number), BATCH), BATCH, samples.width()));
  }

  @Override
  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
    return executable.run(stream, inputs.toArray(Tensor[]::new));
  }

  @Override
  public Expected expected(int number) {
    return expected.get(number);
  }

  @Override
  public void close() {
    executable.close();
  }
}
