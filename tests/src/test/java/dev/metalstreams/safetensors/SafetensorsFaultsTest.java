package dev.metalstreams.safetensors;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every fault of a file is one sentence that names the file and the fault, and costs no memory. */
class SafetensorsFaultsTest {
  private static final String NAME = "the-file";

  @TempDir private Path directory;

  private static Safetensors read(byte[] bytes) {
    return Safetensors.of(NAME, ByteBuffer.wrap(bytes));
  }

  private static void assertOneSentence(Throwable thrown) {
    assertThat(thrown).isInstanceOf(SafetensorsException.class);
    String message = String.valueOf(thrown.getMessage());
    assertThat(message).startsWith(NAME + ": ").hasSizeBetween(NAME.length() + 10, 400);
    assertThat(message.chars()).noneMatch(Character::isISOControl);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          `[]`                                                                    | 0 | the header does not begin with '{'
          ` {}`                                                                   | 0 | the header does not begin with '{'
          `{`                                                                     | 0 | the header is not valid JSON
          `{} x`                                                                  | 0 | the header is not valid JSON
          `{} {}`                                                                 | 0 | something follows the header's closing '}'
          `{}`                                                                    | 3 | the last 3 bytes belong to no tensor
          `{"a":1}`                                                               | 0 | tensor 'a' is not described by an object
          `{"__metadata__":[]}`                                                   | 0 | the metadata is not an object
          `{"__metadata__":{"k":1}}`                                              | 0 | the metadata entry 'k' is not a string
          `{"a":{"shape":[1],"data_offsets":[0,4]}}`                              | 4 | tensor 'a' has no dtype
          `{"a":{"dtype":"F32","data_offsets":[0,4]}}`                            | 4 | tensor 'a' has no shape
          `{"a":{"dtype":"F32","shape":[1]}}`                                     | 4 | tensor 'a' has no data_offsets
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}}`   | 4 | tensor 'a' has the unknown key 'stride'
          `{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`                | 4 | tensor 'a' has the unknown dtype 'F31'
          `{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}`                   | 4 | tensor 'a' has a dtype that is not a string
          `{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}`                  | 4 | tensor 'a' has a shape that is not an array
          `{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}`              | 4 | tensor 'a' has a shape with something that is not a whole number
          `{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}`              | 4 | tensor 'a' has a shape with something that is not a whole number
          `{"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}}`              | 4 | tensor 'a' has a shape with something that is not a whole number
          `{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`               | 4 | tensor 'a' has a shape with -1, which no size can be
          `{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}` | 4 | tensor 'a' has a shape with 99999999999999999999, which no size can be
          `{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}` | 4 | tensor 'a' has a shape whose size overflows
          `{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}` | 4 | tensor 'a' has a shape whose size overflows
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}`                  | 4 | tensor 'a' has 1 data_offsets, not 2
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`              | 4 | tensor 'a' has 3 data_offsets, not 2
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`               | 4 | tensor 'a' has a data_offsets with -4, which no size can be
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`                | 4 | tensor 'a' ends at 0, before its begin at 4
          `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`                | 4 | tensor 'a' ends at byte 8 of the data, but the file has only 4
          `{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}` | 4 | tensor 'a' ends at byte 9223372036854775807 of the data, but the file has only 4
          `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`                | 4 | tensor 'a' takes 8 bytes by its dtype and shape, but 4 by its data_offsets
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`                | 8 | the bytes from 0 to 4 of the data belong to no tensor
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`                | 8 | the last 4 bytes belong to no tensor
          `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}` | 8 | tensor 'b' overlaps tensor 'a'
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}` | 4 | overlaps tensor
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}` | 12 | the bytes from 4 to 8 of the data belong to no tensor
          `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}` | 8 | not valid JSON: Duplicate
          `{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`  | 4 | not valid JSON: Duplicate
          `{"__metadata__":{},"__metadata__":{}}`                                 | 0 | not valid JSON: Duplicate
          """)
  void faultyHeader(String header, int dataBytes, String fault) {
    Throwable thrown = catchThrowable(() -> read(SafetensorsFile.of(header, dataBytes)));
    assertOneSentence(thrown);
    assertThat(thrown).hasMessageContaining(fault);
  }

  @ParameterizedTest
  @ValueSource(longs = {-1, Long.MIN_VALUE, 100_000_001, Long.MAX_VALUE, 1L << 40})
  void lengthThatTheFormatForbids(long length) {
    Throwable thrown =
        catchThrowable(
            () ->
                read(SafetensorsFile.withLength(length, "{}".getBytes(StandardCharsets.UTF_8), 0)));
    assertOneSentence(thrown);
    assertThat(thrown).hasMessageContaining("the format allows at most 100000000");
  }

  @Test
  void lengthBeyondTheFile() {
    Throwable thrown =
        catchThrowable(
            () ->
                read(
                    SafetensorsFile.withLength(
                        99_999_999, "{}".getBytes(StandardCharsets.UTF_8), 0)));
    assertOneSentence(thrown);
    assertThat(thrown)
        .hasMessageContaining("said to be 99999999 bytes long, but only 2 bytes follow");
  }

  @Test
  void invalidUtf8() {
    byte[] header = "{\"a?\":{}}".getBytes(StandardCharsets.UTF_8);
    header[3] = (byte) 0xff;
    Throwable thrown =
        catchThrowable(() -> read(SafetensorsFile.withLength(header.length, header, 0)));
    assertOneSentence(thrown);
    assertThat(thrown).hasMessageContaining("not valid UTF-8");
  }

  @Test
  void deepNestingIsRefusedAndNotFollowed() {
    Throwable thrown =
        catchThrowable(() -> read(SafetensorsFile.of("{\"a\":" + "[".repeat(1_000_000), 0)));
    assertOneSentence(thrown);
    Throwable metadata =
        catchThrowable(
            () -> read(SafetensorsFile.of("{\"a\":{\"shape\":" + "[".repeat(1_000_000), 0)));
    assertOneSentence(metadata);
  }

  @Test
  void textFromTheFileStaysOnOneLine() {
    Throwable thrown =
        catchThrowable(
            () -> read(SafetensorsFile.of("{\"" + "x\\n\\u001b\\u2028".repeat(100) + "\":1}", 0)));
    assertOneSentence(thrown);
    assertThat(thrown).message().doesNotContain("\u2028");
  }

  @Test
  void missingFileAndDirectory() {
    assertThatThrownBy(() -> Safetensors.open(directory.resolve("none")))
        .isInstanceOf(SafetensorsException.class)
        .hasMessageEndingWith("none: there is no such file");
    assertThatThrownBy(() -> Safetensors.open(directory))
        .isInstanceOf(SafetensorsException.class)
        .hasMessageEndingWith(": this is not a regular file");
  }

  @ParameterizedTest
  @ValueSource(strings = {"digits_mlp.safetensors", "digits_test.safetensors"})
  void truncatedAtEveryByteOfTheHeaderAndManyBeyond(String name) {
    byte[] whole = SafetensorsFile.shipped(name);
    int dataStart = SafetensorsFile.dataStart(whole);
    for (int length = 0; length < whole.length; length += length <= dataStart + 64 ? 1 : 997) {
      byte[] truncated = Arrays.copyOf(whole, length);
      assertOneSentence(catchThrowable(() -> read(truncated)));
    }
    assertThat(read(whole).names()).isNotEmpty();
  }

  @Test
  void truncatedOnDisk() throws IOException {
    byte[] whole = SafetensorsFile.shipped("digits_mlp.safetensors");
    Path file = directory.resolve("truncated");
    for (int length :
        new int[] {0, 7, 8, 9, 200, SafetensorsFile.dataStart(whole), whole.length - 1}) {
      Files.write(file, Arrays.copyOf(whole, length));
      assertThatThrownBy(() -> Safetensors.open(file))
          .isInstanceOf(SafetensorsException.class)
          .hasMessageStartingWith(file + ": ");
    }
  }

  /**
   * Whatever the bytes say: a file, or one sentence. Nothing else is thrown and nothing large is
   * made.
   */
  @Test
  void randomChangesOfTheHeader() {
    byte[] whole = SafetensorsFile.shipped("digits_mlp.safetensors");
    int dataStart = SafetensorsFile.dataStart(whole);
    SplittableRandom random = new SplittableRandom(20_250_101);
    int refused = 0;
    for (int round = 0; round < 5_000; round++) {
      byte[] changed = whole.clone();
      for (int change = random.nextInt(1, 4); change > 0; change--) {
        int at = random.nextInt(dataStart);
        changed[at] =
            random.nextBoolean()
                ? (byte) random.nextInt()
                : (byte) (changed[at] ^ 1 << random.nextInt(8));
      }
      Throwable thrown = catchThrowable(() -> readAll(changed));
      if (thrown != null) {
        assertOneSentence(thrown);
        refused++;
      }
    }
    // Most changes break something; the others rename a tensor or touch the padding.
    assertThat(refused).isBetween(2_500, 4_999);
  }

  private static void readAll(byte[] bytes) {
    Safetensors file = read(bytes);
    long total = 0;
    for (String name : file.names()) {
      total += file.tensor(name).bytes().remaining();
    }
    assertThat(total).isEqualTo(bytes.length - SafetensorsFile.dataStart(bytes));
  }
}
