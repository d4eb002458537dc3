package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Compiled graphs and tensors. */
class ExecutableTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream stream = device.streams().stream(1);

  private static Graph twoOutputs() {
    return Graph.build(
        g -> {
          Node x = g.input("x", DType.F32, 2);
          Node twice = g.add(x, x);
          g.output("twice", twice);
          g.output("positive", g.relu(twice));
        });
  }

  @Test
  void runAndLetTheResultBeRead() {
    script.letRun();
    try (Executable exe = device.compile(layer(2, 3, 2));
        Tensor x = device.tensor(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);
        Tensor w = device.tensor(new float[] {1, 0, 0, 0, 1, 0}, 2, 3);
        Tensor b = device.tensor(new float[] {10, -100}, 2);
        Tensor y = exe.run(x, w, b)) {
      assertThat(y.shape()).containsExactly(2, 2);
      assertThat(y.type()).isEqualTo(DType.F32);
      assertThat(y.elements()).isEqualTo(4);
      assertThat(y.toFloats()).containsExactly(11, 0, 14, 0);
      float[] into = new float[5];
      y.toFloats(into);
      assertThat(into).containsExactly(11, 0, 14, 0, 0);
      assertThat(exe.graph().inputs()).hasSize(3);
    }
  }

  @Test
  void haveSeveralOutputs() {
    script.letRun();
    try (Executable exe = device.compile(twoOutputs());
        Tensor x = device.tensor(new float[] {-1, 2}, 2)) {
      List<Tensor> results = exe.runAll(x);
      assertThat(results.get(0).toFloats()).containsExactly(-2, 4);
      assertThat(results.get(1).toFloats()).containsExactly(0, 4);
      results.forEach(Tensor::close);
      assertThatExceptionOfType(IllegalStateException.class)
          .isThrownBy(() -> exe.run(x))
          .withMessageContaining("runAll");
    }
    assertThat(device.memory().stats().allocated()).isZero();
  }

  @Test
  void writeIntoGivenTensors() {
    script.letRun();
    try (Executable exe = device.compile(twoOutputs());
        Tensor x = device.tensor(new float[] {-1, 2}, 2);
        Tensor a = device.empty(DType.F32, 2);
        Tensor b = device.empty(DType.F32, 2)) {
      exe.runInto(List.of(x), List.of(a, b));
      assertThat(b.toFloats()).containsExactly(0, 4);
      x.write(new float[] {5, -6});
      exe.runInto(stream, List.of(x), List.of(a, b));
      assertThat(a.toFloats()).containsExactly(10, -12);
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> exe.runInto(List.of(x), List.of(a, a)))
          .withMessageContaining("output 1 is also output 0");
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> exe.runInto(List.of(x), List.of(x, b)))
          .withMessageContaining("output 0 is also input 0");
    }
  }

  /** More than a stream has room for at first. */
  @Test
  void haveManyInputs() {
    Device device = open(Script.immediate());
    int inputs = 40;
    Graph graph =
        Graph.build(
            g -> {
              Node sum = g.input("x0", DType.F32, 1);
              for (int i = 1; i < inputs; i++) {
                sum = g.add(sum, g.input("x" + i, DType.F32, 1));
              }
              g.output("y", sum);
            });
    try (Executable executable = device.compile(graph)) {
      for (int round = 0; round < 2; round++) {
        Tensor[] all = new Tensor[inputs];
        for (int i = 0; i < inputs; i++) {
          all[i] = device.tensor(new float[] {i}, 1);
        }
        try (Tensor y = executable.run(all)) {
          assertThat(y.toFloats()).containsExactly(inputs * (inputs - 1) / 2f);
        }
        for (Tensor each : all) {
          each.close();
        }
      }
    }
  }

  @Test
  void chainOnAStreamWithoutWaiting() {
    Graph twice =
        Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 1);
              g.output("y", g.add(x, x));
            });
    Executable exe = device.compile(twice);
    Tensor value = device.tensor(new float[] {1}, 1);
    for (int i = 0; i < 10; i++) {
      Tensor next = exe.run(stream, value);
      value.close(); // in flight
      value = next;
    }
    stream.flush();
    exe.close(); // in flight
    script.letRun();
    assertThat(value.toFloats()).containsExactly(1024);
    value.close();
  }

  @Test
  void refuseTensorsThatDoNotFitAndSayWhich() {
    try (Executable exe = device.compile(layer(2, 3, 2));
        Tensor x = device.tensor(new float[6], 2, 3);
        Tensor w = device.tensor(new float[6], 2, 3);
        Tensor b = device.tensor(new float[2], 2);
        Tensor turned = device.tensor(new float[6], 3, 2)) {
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> exe.run(x, turned, b))
          .withMessageContaining("input 1 (w)")
          .withMessageContaining("[2, 3]")
          .withMessageContaining("[3, 2]");
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> exe.run(x, w))
          .withMessageContaining("3 inputs, not 2");
      assertThatExceptionOfType(IllegalArgumentException.class)
          .isThrownBy(() -> exe.runInto(List.of(x, w, b), List.of(turned)))
          .withMessageContaining("output 0");
    }
    assertThat(device.memory().stats().allocated()).as("no output was left behind").isZero();
  }

  @ParameterizedTest
  @ValueSource(strings = {"createBuffer", "begin", "encodeExecutable"})
  void loseNothingWhenTheDriverRefuses(String method) {
    try (Executable exe = device.compile(twoOutputs());
        Tensor x = device.tensor(new float[] {-1, 2}, 2)) {
      long before = device.memory().stats().allocated();
      script.refuse(method, 1, Status.OUT_OF_MEMORY);
      if (method.equals("createBuffer")) {
        script.intercept(
            method,
            () -> {
              throw new dev.metalstreams.driver.DriverException(Status.OUT_OF_MEMORY, "none left");
            });
      }
      assertThatExceptionOfType(OutOfDeviceMemoryException.class)
          .isThrownBy(() -> exe.runAll(stream, x));
      script.intercept(method, null);
      stream.flush();
      script.runAll();
      assertThat(device.memory().stats().allocated()).isEqualTo(before);
      List<Tensor> results = exe.runAll(stream, x);
      stream.flush();
      script.runAll();
      assertThat(results.get(1).toFloats()).containsExactly(0, 4);
      results.forEach(Tensor::close);
    }
  }

  @Test
  void areOfNoUseOnceClosed() {
    Executable exe = device.compile(twoOutputs());
    Tensor x = device.tensor(new float[] {-1, 2}, 2);
    exe.close();
    exe.close();
    assertThat(script.executables()).as("kept for the next who compiles it").isOne();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(() -> exe.runAll(x))
        .withMessageContaining("executable is closed");
    x.close();
    assertThat(device.memory().stats().allocated()).isZero();
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(x::toFloats);
    assertThatExceptionOfType(IllegalStateException.class).isThrownBy(() -> x.write(new float[2]));
    assertThat(x.isClosed()).isTrue();
    assertThat(x.shape()).containsExactly(2);
  }

  @Test
  void aResultWaitsForItsOwnWorkAlone() throws Exception {
    Graph graph =
        Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 1);
              g.output("y", g.relu(x));
            });
    Executable exe = device.compile(graph);
    DeviceStream busy = device.streams().stream(2);
    DeviceBuffer unrelated = device.allocate(8, busy);
    busy.fill(unrelated, (byte) 1);
    busy.flush();
    Tensor x = device.tensor(new float[] {3}, 1);
    Tensor y = exe.run(stream, x);
    Background<float[]> reader = Background.call(y::toFloats);
    script.awaitCommitted(stream.id(), 1);
    reader.untilParked();
    script.run(stream.id());
    assertThat(reader.get()).containsExactly(3);
    assertThat(busy.query()).isFalse();
  }

  @Test
  void aWriteWaitsForWorkThatReads() throws Exception {
    Executable exe = device.compile(twoOutputs());
    Tensor x = device.tensor(new float[] {1, 2}, 2);
    List<Tensor> results = exe.runAll(stream, x);
    stream.flush();
    Background<Boolean> writer = Background.run(() -> x.write(new float[] {-9, -9})).untilParked();
    assertThat(writer.over()).isFalse();
    script.runAll();
    writer.get();
    assertThat(results.get(1).toFloats()).containsExactly(2, 4);
    assertThat(x.toFloats()).containsExactly(-9, -9);
  }
}
