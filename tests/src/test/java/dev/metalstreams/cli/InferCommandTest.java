package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.safetensors.SafetensorsFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class InferCommandTest {
  @TempDir Path directory;

  @Test
  void shippedDigits() {
    CommandRun run = CommandRun.line("infer --backend host --threads 8 --json");
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("samples", 500.0)
        .containsEntry("accuracy", 0.978)
        .containsEntry("threads", 8.0)
        .containsEntry("streams_used", 8.0)
        .containsEntry("backend", "host");
    assertThat(run.number("max_abs_error")).isBetween(0.0, 1e-4);
    assertThat(run.number("samples_per_second")).isPositive();
  }

  /** Whichever thread computes a sample, and beside whichever others: the bits are the same. */
  @ParameterizedTest
  @ValueSource(strings = {"mlp", "transformer"})
  void bitForBitTheSameFromAnyNumberOfThreads(String arch) {
    Set<@Nullable Object> checksums = new HashSet<>();
    for (int threads : new int[] {1, 8, 31}) {
      CommandRun run =
          CommandRun.line("infer --backend host --json --arch " + arch + " --threads " + threads);
      assertThat(run.status()).isZero();
      assertThat(run.json())
          .containsEntry("ok", true)
          .containsEntry("accuracy", arch.equals("mlp") ? 0.978 : 0.986)
          .containsEntry("streams_used", (double) threads);
      assertThat(run.number("max_abs_error")).isLessThan(1e-4);
      checksums.add(run.json().get("checksum"));
    }
    assertThat(checksums).singleElement().asString().matches("[0-9a-f]{16}");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          `{}` | 0 | there is no embed.weight, so this is no transformer
          `{"embed.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]}}` | 16 | there is no tensor 'pos'
          `{"embed.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"pos":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"head.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[16,24]}}` | 24 | embed.weight has 2 rows, which 4 heads do not divide
          `{"embed.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]},"embed.bias":{"dtype":"F32","shape":[4],"data_offsets":[16,32]},"pos":{"dtype":"F32","shape":[1,3],"data_offsets":[32,44]},"head.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[44,60]}}` | 60 | pos has the shape [1, 3], not [1, 4]
          """)
  void faultyTransformer(String header, int dataBytes, String fault) throws IOException {
    Path model = write("model", SafetensorsFile.of(header, dataBytes));
    CommandRun.of("infer", "--arch", "transformer", "--model", model.toString())
        .assertRefused(fault);
  }

  /** 33 does not divide 500: the last batch is smaller. 1000 is more than there are. */
  @ParameterizedTest
  @CsvSource({"33,3", "500,8", "1000,1", "1,1"})
  void batches(int batch, int threads) {
    CommandRun run =
        CommandRun.line("infer --backend host --json --batch " + batch + " --threads " + threads);
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("samples", 500.0)
        .containsEntry("accuracy", 0.978)
        .containsEntry("ok", true);
  }

  @Test
  void table() {
    CommandRun run = CommandRun.line("infer --backend host");
    assertThat(run.status()).isZero();
    assertThat(run.err()).isEmpty();
    assertThat(run.out()).contains("ok", "500", "0.9780", "8 on 8 streams");
  }

  private Path write(String name, byte[] bytes) throws IOException {
    return Files.write(directory.resolve(name), bytes);
  }

  @Test
  void filesInsteadOfTheShippedOnes() throws IOException {
    Path model = write("m", SafetensorsFile.shipped("digits_mlp.safetensors"));
    Path input = write("i", SafetensorsFile.shipped("digits_test.safetensors"));
    CommandRun run =
        CommandRun.of(
            "infer",
            "--backend",
            "host",
            "--json",
            "--model",
            model.toString(),
            "--input",
            input.toString());
    assertThat(run.json()).containsEntry("ok", true).containsEntry("accuracy", 0.978);
  }

  @Test
  void modelTruncatedAtEveryByteOfTheHeader() throws IOException {
    byte[] whole = SafetensorsFile.shipped("digits_mlp.safetensors");
    int dataStart = SafetensorsFile.dataStart(whole);
    for (int length = 0; length < whole.length; length += length <= dataStart ? 1 : 50_000) {
      Path model = write("truncated", Arrays.copyOf(whole, length));
      CommandRun.of("infer", "--model", model.toString()).assertRefused(model + ": ");
      CommandRun.of("infer", "--input", model.toString()).assertRefused(model + ": ");
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          `{}`                                                        | 0  | there is no fc1.weight, so this is no mlp
          `{"fc1.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}` | 8 | there is no tensor 'fc1.bias'
          `{"fc1.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}` | 8 | fc1.weight has 1 dimensions, not 2
          `{"fc1.weight":{"dtype":"F32","shape":[0,64],"data_offsets":[0,0]}}` | 0 | fc1.weight has the shape [0, 64] and so no values
          `{"fc1.weight":{"dtype":"F32","shape":[0,9000000000],"data_offsets":[0,0]}}` | 0 | fc1.weight has the shape [0, 9000000000] and so no values
          `{"fc1.weight":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"fc1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}` | 8 | fc1.weight is of type F16, not F32
          `{"fc1.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"fc1.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}` | 12 | fc1.bias has 1 values, but fc1.weight has 2 rows
          `{"fc1.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"fc1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"fc2.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"fc2.bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}}` | 20 | fc2.weight takes 2 values, but the layer before gives 1
          `{"fc1.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"fc1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"fc3.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}` | 12 | there is fc3.bias, but no fc2.weight
          `{"fc1.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"fc1.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}` | 8 | x has 64 values per sample, but the model takes 1
          """)
  void faultyModel(String header, int dataBytes, String fault) throws IOException {
    Path model = write("model", SafetensorsFile.of(header, dataBytes));
    CommandRun.of("infer", "--model", model.toString()).assertRefused(fault);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          `{"y":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}` | 4 | there is no tensor 'x'
          `{"x":{"dtype":"I32","shape":[1,64],"data_offsets":[0,256]}}` | 256 | x is of type I32, not F32
          `{"x":{"dtype":"F32","shape":[64],"data_offsets":[0,256]}}` | 256 | x has 1 dimensions, not 2
          `{"x":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]}}` | 256 | x has 32 values per sample, but the model takes 64
          `{"x":{"dtype":"F32","shape":[0,64],"data_offsets":[0,0]}}` | 0 | x has the shape [0, 64] and so no values
          `{"x":{"dtype":"F32","shape":[1,64],"data_offsets":[0,256]},"y":{"dtype":"F32","shape":[1],"data_offsets":[256,260]}}` | 260 | y is of type F32, not I32
          `{"x":{"dtype":"F32","shape":[1,64],"data_offsets":[0,256]},"y":{"dtype":"I32","shape":[2],"data_offsets":[256,264]}}` | 264 | y has 2 labels for 1 samples
          `{"x":{"dtype":"F32","shape":[1,64],"data_offsets":[0,256]},"logits":{"dtype":"F32","shape":[10,1],"data_offsets":[256,296]}}` | 296 | logits has the shape [10, 1], not [1, 10]
          """)
  void faultyInput(String header, int dataBytes, String fault) throws IOException {
    Path input = write("input", SafetensorsFile.of(header, dataBytes));
    CommandRun.of("infer", "--input", input.toString()).assertRefused(fault);
  }

  @Test
  void labelThatIsNoClass() throws IOException {
    byte[] bytes = SafetensorsFile.shipped("digits_test.safetensors");
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putInt(bytes.length - 4, 10);
    Path input = write("input", bytes);
    CommandRun.of("infer", "--input", input.toString())
        .assertRefused("y has the label 10 for sample 499, but the model knows the classes 0 to 9");
  }

  @Test
  void withoutLabelsAndLogits() throws IOException {
    Path input =
        write(
            "input",
            SafetensorsFile.of(
                """
                {"x":{"dtype":"F32","shape":[3,64],"data_offsets":[0,768]}}""",
                768));
    CommandRun run =
        CommandRun.of("infer", "--backend", "host", "--json", "--input", input.toString());
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("samples", 3.0)
        .containsEntry("accuracy", null)
        .containsEntry("max_abs_error", null);
    CommandRun table = CommandRun.of("infer", "--backend", "host", "--input", input.toString());
    assertThat(table.out()).contains("the input has no labels", "the input has no logits");
  }

  /** One stored logit of 5000 is changed by a hundredth: that must show, with its size. */
  @Test
  void wrongLogitFails() throws IOException {
    byte[] bytes = SafetensorsFile.shipped("digits_test.safetensors");
    ByteBuffer data = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int at = SafetensorsFile.dataStart(bytes) + 4 * 4321;
    data.putFloat(at, data.getFloat(at) + 0.01f);
    Path input = write("input", bytes);
    CommandRun run =
        CommandRun.of("infer", "--backend", "host", "--json", "--input", input.toString());
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json()).containsEntry("ok", false).containsEntry("accuracy", 0.978);
    assertThat(run.number("max_abs_error")).isBetween(0.009, 0.011);
    assertThat(run.err()).contains("1 logits differ");
  }

  @Test
  void notANumberIsNeverWithinTolerance() throws IOException {
    byte[] bytes = SafetensorsFile.shipped("digits_test.safetensors");
    int x = SafetensorsFile.dataStart(bytes) + 40_000;
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putFloat(x, Float.NaN);
    Path input = write("input", bytes);
    CommandRun run =
        CommandRun.of("infer", "--backend", "host", "--json", "--input", input.toString());
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json()).containsEntry("ok", false).containsEntry("max_abs_error", null);
  }

  @Test
  void stopped() {
    StopSignal stop = new StopSignal();
    stop.request();
    CommandRun run =
        CommandRun.with(new InferCommand(), stop, "infer", "--backend", "host", "--json");
    assertThat(run.status()).isEqualTo(130);
    assertThat(run.json()).containsEntry("interrupted", true).containsEntry("samples", 0.0);
  }
}
