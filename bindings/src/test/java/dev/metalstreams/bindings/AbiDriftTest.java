package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The bindings are what the C compiler makes of the headers: every function, field and constant, in
 * both directions. If this fails, run {@code bindings/regenerate}.
 */
class AbiDriftTest {
  private static final Path HEADERS = Path.of("../shim/include");
  private static final Path SOURCES =
      Path.of("../bindings/src/main/java/dev/metalstreams/bindings/abi");

  @TempDir Path work;

  @Test
  void theBindingsAreThoseOfTheHeaders() throws Exception {
    Abi header = new HeaderReader(HEADERS, work).read();
    Abi bindings = new BindingsReader(SOURCES).read();

    assertThat(header.driftOf(bindings)).isEmpty();
    // Both sides were read at all: something of every kind is there.
    assertThat(bindings.facts())
        .containsEntry("MST_ABI_VERSION", "1")
        .containsEntry("MST_ERROR_INTERNAL", "-11")
        .containsEntry("mst_completion.message", "at 56, i1 x 200, char message[200]")
        .containsEntry(
            "mst_queue_wait",
            "i4(p8, i8, i8), int32_t mst_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns)")
        .containsKey("mst_test_live_objects.executables")
        .containsKey("mst_test_fail");
  }

  /**
   * Each row changes the headers in one place and says which facts must be reported, and no others.
   */
  @ParameterizedTest(name = "{0}")
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          changed constant          | #define MST_MAX_RANK 8                | #define MST_MAX_RANK 9                                | MST_MAX_RANK
          changed enumerator        | MST_TIMEOUT = 1                       | MST_TIMEOUT = 2                                       | MST_TIMEOUT
          new enumerator            | MST_F32 = 1                           | MST_F32 = 1, MST_F64 = 3                              | MST_F64
          enumerator gone           | , MST_MATMUL_TRANSPOSE_B = 1          | ``                                                    | MST_MATMUL_TRANSPOSE_B
          new macro                 | #define MST_MAX_RANK 8                | #define MST_MAX_RANK 8\\n#define MST_MAX_DIMS 4       | MST_MAX_DIMS
          new function              | mst_device_count(void);               | mst_device_count(void); int32_t mst_device_next(void);| mst_device_next
          function gone             | MST_API int32_t mst_device_count(void); | ``                                                  | mst_device_count
          new parameter             | mst_device_count(void)                | mst_device_count(int32_t kind)                        | mst_device_count
          changed result            | MST_API int32_t mst_device_count(     | MST_API int64_t mst_device_count(                     | mst_device_count
          changed sign of a result  | MST_API int32_t mst_device_count(     | MST_API uint32_t mst_device_count(                    | mst_device_count
          changed parameter         | mst_queue_wait(mst_queue *queue, uint64_t value | mst_queue_wait(mst_queue *queue, uint32_t value | mst_queue_wait
          value instead of pointer  | mst_device_wake(mst_device *device)   | mst_device_wake(int64_t device)                       | mst_device_wake
          new test hook             | mst_test_release(mst_queue *queue);   | mst_test_release(mst_queue *queue); int32_t mst_test_all(void); | mst_test_all
          changed struct of a hook  | int64_t devices                       | int32_t devices                                       | mst_test_live_objects.devices
          new struct                | enum mst_dtype                        | typedef struct mst_more { int32_t n; } mst_more; enum mst_dtype | mst_more mst_more.n
          new field at the end      | uint64_t limit_bytes;                 | uint64_t limit_bytes; uint64_t peak_bytes;            | mst_device_memory_facts mst_device_memory_facts.peak_bytes
          renamed field             | uint64_t buffer_count;                | uint64_t buffers;                                     | mst_device_memory_facts.buffer_count mst_device_memory_facts.buffers
          field of another type     | uint64_t max_buffer_bytes;            | double max_buffer_bytes;                              | mst_device_facts.max_buffer_bytes
          field of another sign     | uint64_t max_buffer_bytes;            | int64_t max_buffer_bytes;                             | mst_device_facts.max_buffer_bytes
          array of another length   | char message[200]                     | char message[192]                                     | mst_completion mst_completion.message
          fields swapped            | uint32_t worker_count;\\n  uint32_t flags; | uint32_t flags;\\n  uint32_t worker_count; | mst_device_options.flags mst_device_options.worker_count
          """)
  void aChangeOfTheHeadersIsReported(String what, String before, String after, String subjects)
      throws Exception {
    Path changed = changedHeaders(before.replace("\\n", "\n"), after.replace("\\n", "\n"));

    List<String> drift =
        new HeaderReader(changed, work).read().driftOf(new BindingsReader(SOURCES).read());

    assertThat(drift)
        .as(what)
        .extracting(sentence -> sentence.substring(0, sentence.indexOf(' ')))
        .containsExactlyInAnyOrder(subjects.split(" "));
  }

  private Path changedHeaders(String before, String after) throws IOException {
    Path folder = Files.createDirectory(work.resolve("changed"));
    int changes = 0;
    for (String name : List.of("mst.h", "mst_test.h")) {
      String text = Files.readString(HEADERS.resolve(name));
      String changed = text.replace(before, after);
      changes += changed.equals(text) ? 0 : 1;
      Files.writeString(folder.resolve(name), changed);
    }
    assertThat(changes).as("headers with: %s", before).isEqualTo(1);
    return folder;
  }
}
