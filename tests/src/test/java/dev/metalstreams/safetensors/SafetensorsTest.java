package dev.metalstreams.safetensors;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.ReadOnlyBufferException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a sound file gives. */
class SafetensorsTest {
  @TempDir private Path directory;

  private Path write(byte[] bytes) throws IOException {
    return Files.write(directory.resolve("file.safetensors"), bytes);
  }

  @Test
  void shippedModelReadsRight() throws IOException {
    try (Safetensors file =
        Safetensors.open(write(SafetensorsFile.shipped("digits_mlp.safetensors")))) {
      assertThat(file.names())
          .containsExactly(
              "fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight");
      StoredTensor weight = file.tensor("fc2.weight");
      assertThat(weight.type()).isEqualTo(StoredType.F32);
      assertThat(weight.shape()).containsExactly(128, 256);
      assertThat(weight.elements()).isEqualTo(128 * 256);
      assertThat(weight.byteSize()).isEqualTo(128 * 256 * 4);
      assertThat(weight.floats()).hasSize(128 * 256).doesNotContain(Float.NaN);
      assertThat(file.metadata()).isEmpty();
    }
  }

  @Test
  void shippedImagesReadRight() throws IOException {
    try (Safetensors file =
        Safetensors.open(write(SafetensorsFile.shipped("digits_test.safetensors")))) {
      assertThat(file.tensor("x").shape()).containsExactly(500, 64);
      assertThat(file.tensor("y").shape()).containsExactly(500);
      for (float pixel : file.tensor("x").floats()) {
        assertThat(pixel).isBetween(0f, 1f);
      }
      for (int label : file.tensor("y").ints()) {
        assertThat(label).isBetween(0, 9);
      }
    }
  }

  /**
   * The model computed here, in double precision, gives the logits that are stored beside the
   * images.
   */
  @Test
  void shippedModelGivesTheStoredLogits() {
    Safetensors model = shipped("digits_mlp.safetensors");
    Safetensors test = shipped("digits_test.safetensors");
    float[] x = test.tensor("x").floats();
    float[] logits = test.tensor("mlp.logits").floats();
    for (int sample = 0; sample < 500; sample += 50) {
      double[] values = new double[64];
      for (int i = 0; i < 64; i++) {
        values[i] = x[sample * 64 + i];
      }
      for (int layer = 1; layer <= 3; layer++) {
        values = linear(values, model, layer);
      }
      for (int i = 0; i < 10; i++) {
        assertThat((float) values[i]).isCloseTo(logits[sample * 10 + i], within(1e-4f));
      }
    }
  }

  private static double[] linear(double[] x, Safetensors model, int layer) {
    float[] weight = model.tensor("fc" + layer + ".weight").floats();
    float[] bias = model.tensor("fc" + layer + ".bias").floats();
    double[] y = new double[bias.length];
    for (int i = 0; i < y.length; i++) {
      y[i] = bias[i];
      for (int j = 0; j < x.length; j++) {
        y[i] += (layer == 1 ? x[j] : Math.max(0, x[j])) * weight[i * x.length + j];
      }
    }
    return y;
  }

  private static Safetensors shipped(String name) {
    return Safetensors.of(name, ByteBuffer.wrap(SafetensorsFile.shipped(name)));
  }

  @Test
  void valuesAreLittleEndian() {
    byte[] file =
        SafetensorsFile.of(
            """
            {"f":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"i":{"dtype":"I32","shape":[1],"data_offsets":[8,12]}}""",
            12);
    int data = SafetensorsFile.dataStart(file);
    ByteBuffer.wrap(file)
        .order(ByteOrder.LITTLE_ENDIAN)
        .position(data)
        .putFloat(1.5f)
        .putFloat(-2f)
        .putInt(-3);
    Safetensors read = Safetensors.of("test", ByteBuffer.wrap(file));
    assertThat(read.tensor("f").floats()).containsExactly(1.5f, -2f);
    assertThat(read.tensor("i").ints()).containsExactly(-3);
    assertThat(read.tensor("f").bytes().order()).isEqualTo(ByteOrder.LITTLE_ENDIAN);
    assertThat(read.tensor("f").bytes().getFloat(4)).isEqualTo(-2f);
  }

  @Test
  void tensorsAreReadOnlyAndOutliveTheFile() throws IOException {
    Safetensors file = Safetensors.open(write(SafetensorsFile.shipped("digits_mlp.safetensors")));
    ByteBuffer bytes = file.tensor("fc3.bias").bytes();
    float first = bytes.getFloat(0);
    file.close();
    file.close();
    assertThat(bytes.getFloat(0)).isEqualTo(first);
    assertThatThrownBy(() -> bytes.putFloat(0, 1)).isInstanceOf(ReadOnlyBufferException.class);
    assertThatThrownBy(() -> file.tensor("fc3.bias").bytes())
        .isInstanceOf(SafetensorsException.class)
        .hasMessageContaining("cannot be read");
  }

  @Test
  void shapesThatTheFormatAllows() {
    Safetensors file =
        Safetensors.of(
            "test",
            ByteBuffer.wrap(
                SafetensorsFile.of(
                    """
                    {"__metadata__":{"format":"pt","":"\\u00e9"},
                     "scalar":{"dtype":"F64","shape":[],"data_offsets":[0,8]},
                     "none":{"dtype":"F32","shape":[3,0],"data_offsets":[8,8]},
                     "half":{"dtype":"BF16","shape":[1,1,1,1,1,2],"data_offsets":[8,12]}}\s\s\s""",
                    12)));
    assertThat(file.metadata()).containsEntry("format", "pt").containsEntry("", "é");
    assertThat(file.names()).containsExactly("scalar", "none", "half");
    assertThat(file.tensor("scalar").elements()).isEqualTo(1);
    assertThat(file.tensor("scalar").shape()).isEmpty();
    assertThat(file.tensor("none").floats()).isEmpty();
    assertThat(file.tensor("half").elements()).isEqualTo(2);
    assertThat(file.tensor("half")).hasToString("half BF16[1, 1, 1, 1, 1, 2]");
  }

  @Test
  void fileWithoutTensors() {
    Safetensors file = Safetensors.of("test", ByteBuffer.wrap(SafetensorsFile.of("{}", 0)));
    assertThat(file.names()).isEmpty();
    assertThat(file.contains("x")).isFalse();
  }

  @Test
  void askingForWhatIsNotThere() {
    Safetensors file = shipped("digits_test.safetensors");
    assertThatThrownBy(() -> file.tensor("z"))
        .isInstanceOf(SafetensorsException.class)
        .hasMessage("digits_test.safetensors: there is no tensor 'z'");
    assertThatThrownBy(() -> file.tensor("x").ints())
        .isInstanceOf(SafetensorsException.class)
        .hasMessage("digits_test.safetensors: tensor 'x' is of type F32, not I32");
  }

  @Test
  void shapeIsACopy() {
    StoredTensor tensor = shipped("digits_test.safetensors").tensor("x");
    tensor.shape()[0] = 7;
    assertThat(tensor.shape()).containsExactly(500, 64);
  }

  /** A sparse file of 5 GiB: offsets beyond an int, and a tensor too large for one buffer. */
  @Test
  void filesBeyondTwoGibibytes() throws IOException {
    long large = 5L << 30;
    String header =
        """
        {"large":{"dtype":"U8","shape":[%1$d],"data_offsets":[0,%1$d]},"last":{"dtype":"F32","shape":[1],"data_offsets":[%1$d,%2$d]}}"""
            .formatted(large, large + 4);
    Path path = write(SafetensorsFile.of(header, 0));
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
      ByteBuffer value = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(0, 42f);
      assertThat(
              channel.write(
                  value, Long.BYTES + header.getBytes(StandardCharsets.UTF_8).length + large))
          .isEqualTo(4);
    }
    try (Safetensors file = Safetensors.open(path)) {
      assertThat(file.tensor("last").floats()).containsExactly(42f);
      assertThat(file.tensor("large").byteSize()).isEqualTo(large);
      assertThatThrownBy(() -> file.tensor("large").bytes())
          .isInstanceOf(SafetensorsException.class)
          .hasMessageContaining("more than one buffer can give");
    }
  }
}
