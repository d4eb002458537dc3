package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.safetensors.SafetensorsFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class VerifyCommandTest {
  @TempDir Path directory;

  private CommandRun verify(byte[] file, String... more) throws IOException {
    Path golden = Files.write(directory.resolve("golden"), file);
    String[] words =
        Arrays.copyOf(new String[] {"verify", "--golden", golden + ""}, 3 + more.length);
    System.arraycopy(more, 0, words, 3, more.length);
    return CommandRun.of(words);
  }

  @Test
  void shippedCases() {
    CommandRun run = CommandRun.line("verify --backend host --json");
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("backend", "host")
        .containsEntry("cases.0.name", "bmm_6x17x31x9")
        .containsEntry("cases.20.name", "tanh_16x33")
        .doesNotContainKey("cases.21.name");
    for (int i = 0; i <= 20; i++) {
      assertThat(run.json()).containsEntry("cases." + i + ".ok", true);
      assertThat(run.number("cases." + i + ".max_abs_error"))
          .isLessThanOrEqualTo(run.number("cases." + i + ".tolerance"));
    }
  }

  @Test
  void table() {
    CommandRun run = CommandRun.line("verify --backend host");
    assertThat(run.status()).isZero();
    assertThat(run.out()).contains("sdpa_causal_2x4x16x8", "21 cases, all within tolerance");
  }

  /** y = a·b with two digits wrong in the last place that matters. */
  @Test
  void wrongResultFails() throws IOException {
    byte[] bytes = SafetensorsFile.shipped("golden_ops.safetensors");
    ByteBuffer data = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int at = offset(bytes, "matmul_1x1x1.y");
    data.putFloat(at, data.getFloat(at) * 1.001f + 0.001f);
    CommandRun run = verify(bytes, "--backend", "host", "--json");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("cases.8.name", "matmul_1x1x1")
        .containsEntry("cases.8.ok", false)
        .containsEntry("cases.9.ok", true);
    CommandRun table = verify(bytes, "--backend", "host");
    assertThat(table.out()).contains("FAILED", "1 of 21 cases FAILED");
  }

  @Test
  void notANumberIsNeverWithinTolerance() throws IOException {
    byte[] bytes = SafetensorsFile.shipped("golden_ops.safetensors");
    ByteBuffer.wrap(bytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putFloat(offset(bytes, "matmul_1x1x1.y"), Float.NaN);
    CommandRun run = verify(bytes, "--backend", "host", "--json");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("cases.8.ok", false)
        .containsEntry("cases.8.max_abs_error", null);
  }

  private static int offset(byte[] file, String tensor) {
    String header =
        new String(file, 8, SafetensorsFile.dataStart(file) - 8, StandardCharsets.UTF_8);
    int from = header.indexOf("\"data_offsets\":[", header.indexOf('"' + tensor + '"')) + 16;
    return SafetensorsFile.dataStart(file)
        + Integer.parseInt(header.substring(from, header.indexOf(',', from)).strip());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          `{}`                                                              | 0  | there is no case
          `{"relu.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`     | 4  | the operation of 'relu' is not known
          `{"conv_3x3.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}` | 4  | the operation of 'conv_3x3' is not known
          `{"relu_1":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`     | 4  | 'relu_1' belongs to no case
          `{".x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`         | 4  | '.x' belongs to no case
          `{"relu_1.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`   | 4  | relu_1 has [x], but takes [x, y]
          `{"relu_1.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"relu_1.z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"relu_1.y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}` | 12 | relu_1 has [x, y, z], but takes [x, y]
          `{"relu_1.x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"relu_1.y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}` | 6 | relu_1.x is of type F16, not F32
          `{"relu_1.x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"relu_1.y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}` | 12 | relu_1 gives [2], but its y is [1]
          `{"relu_1.x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"relu_1.y":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}` | 0 | relu_1.x has the shape [0] and so no values
          `{"relu_1.x":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]},"relu_1.y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}` | 8 | relu_1: a tensor has at most 8 dimensions, not 9
          `{"matmul_1.a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"matmul_1.b":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"matmul_1.y":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]}}` | 20 | matmul_1: matmul#2: shapes do not fit: a [1, 2] and b [1, 2]
          """)
  void faultyFile(String header, int dataBytes, String fault) throws IOException {
    verify(SafetensorsFile.of(header, dataBytes)).assertRefused(fault);
  }

  @Test
  void truncatedAndMissing() throws IOException {
    byte[] whole = SafetensorsFile.shipped("golden_ops.safetensors");
    for (int length :
        new int[] {0, 7, 8, 100, SafetensorsFile.dataStart(whole), whole.length - 1}) {
      verify(Arrays.copyOf(whole, length)).assertRefused("golden: ");
    }
    CommandRun.line("verify --golden no/such/file").assertRefused("no/such/file");
  }

  @Test
  void stopped() {
    StopSignal stop = new StopSignal();
    stop.request();
    CommandRun run =
        CommandRun.with(new VerifyCommand(), stop, "verify", "--backend", "host", "--json");
    assertThat(run.status()).isEqualTo(130);
    assertThat(run.json()).containsEntry("interrupted", true).containsEntry("ok", false);
  }
}
