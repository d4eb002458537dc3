package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The README does what it says: its Java code compiles, runs and prints what its comment promises;
 * its settings are all.
 */
class ReadmeTest {
  private static final Path README = Path.of("..", "README.md");

  @TempDir private Path folder;

  @Test
  void theExampleCompilesAndPrintsWhatItSays() throws Exception {
    String example = DocumentCode.blocks(README).getFirst();
    assertThat(DocumentCode.run(example, folder)).isEqualTo("[10.5, 26.0, 0.0]\n".repeat(8));
  }

  @Test
  void theOtherExamplesRun() throws Exception {
    List<String> others = DocumentCode.blocks(README).stream().skip(1).toList();
    assertThat(others).hasSize(1);
    assertThat(DocumentCode.run(DocumentCode.program(others.get(0)), folder))
        .isEqualTo("[10.5, 0.0]\n");
  }

  @Test
  void everySettingIsInTheTable() throws Exception {
    String readme = Files.readString(README);
    for (Settings.Key key : Settings.Key.values()) {
      assertThat(readme).contains("| `" + key.label + "` | `" + key.environment + "` |");
    }
  }
}
