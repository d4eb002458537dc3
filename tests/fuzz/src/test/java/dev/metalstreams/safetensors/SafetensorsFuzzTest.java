package dev.metalstreams.safetensors;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/**
 * Any bytes are a sound file or one sentence. In ordinary test runs the kept inputs are read again;
 * {@code tests/fuzz} looks for new ones.
 */
class SafetensorsFuzzTest {
  private static final String NAME = "the-file";

  @FuzzTest
  void aFileIsSoundOrRefused(byte[] file) {
    read(file);
  }

  /** Spares the fuzzer from guessing the length of the header. */
  @FuzzTest
  void aHeaderIsSoundOrRefused(byte[] header) {
    byte[] file =
        ByteBuffer.allocate(Long.BYTES + header.length + 16)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putLong(header.length)
            .put(header)
            .array();
    read(file);
  }

  private static void read(byte[] bytes) {
    Safetensors file;
    try {
      file = Safetensors.of(NAME, ByteBuffer.wrap(bytes));
    } catch (SafetensorsException e) {
      assertOneSentence(e);
      return;
    }
    try (file) {
      checkAll(file, bytes);
    }
  }

  /** What a tensor says of itself is true, and together they are the data, each byte once. */
  private static void checkAll(Safetensors file, byte[] bytes) {
    List<StoredTensor> tensors = new ArrayList<>();
    file.names().forEach(name -> tensors.add(file.tensor(name)));
    long total = 0;
    for (StoredTensor tensor : tensors) {
      BigInteger elements = BigInteger.ONE;
      for (long dim : tensor.shape()) {
        assertThat(dim).isNotNegative();
        elements = elements.multiply(BigInteger.valueOf(dim));
      }
      assertThat(elements).isEqualTo(BigInteger.valueOf(tensor.elements()));
      assertThat(tensor.byteSize()).isEqualTo(tensor.elements() * tensor.type().bytes());
      assertThat(tensor.bytes().remaining()).isEqualTo(tensor.byteSize());
      if (tensor.type() != StoredType.F32) {
        assertThatThrownBy(tensor::floats).satisfies(SafetensorsFuzzTest::assertOneSentence);
      }
      total += tensor.byteSize();
    }
    long header = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    assertThat(total).isEqualTo(bytes.length - Long.BYTES - header);
    assertThat(file.contains("no such tensor" + total)).isFalse();
    int text =
        file.metadata().entrySet().stream()
            .mapToInt(entry -> entry.getKey().length() + entry.getValue().length())
            .sum();
    assertThat(text).as("characters of metadata").isLessThanOrEqualTo((int) header);
  }

  private static void assertOneSentence(Throwable thrown) {
    assertThat(thrown).isInstanceOf(SafetensorsException.class);
    String message = String.valueOf(thrown.getMessage());
    assertThat(message).startsWith(NAME + ": ").hasSizeBetween(NAME.length() + 10, 400);
    assertThat(message.codePoints()).noneMatch(Character::isISOControl);
  }
}
