package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every example of the guide compiles, runs and closes what it opens; what it names is there. */
@Timeout(60)
class GuideTest {
  private static final Path GUIDE = Path.of("..", "docs", "guide.md");
  private static final Pattern LINK = Pattern.compile("\\]\\(([^)#]+)[^)]*\\)");

  @TempDir private Path folder;

  static Stream<Arguments> examples() throws IOException {
    List<String> blocks = DocumentCode.blocks(GUIDE);
    assertThat(blocks).hasSizeGreaterThan(8);
    return IntStream.range(0, blocks.size()).mapToObj(i -> Arguments.of(i, blocks.get(i)));
  }

  @ParameterizedTest
  @MethodSource("examples")
  void anExampleRuns(int number, String block) throws Exception {
    assertThat(DocumentCode.run(DocumentCode.program(block), folder))
        .as("example " + number)
        .isEmpty();
  }

  /** Else the test above could not fail. */
  @Test
  void aMistakeInAnExampleIsFound() {
    assertThatThrownBy(() -> DocumentCode.run(DocumentCode.program("layer.run();y"), folder))
        .hasMessageContaining("not a statement");
    assertThatThrownBy(() -> DocumentCode.run(DocumentCode.program("layer.run(x);"), folder))
        .hasRootCauseInstanceOf(AssertionError.class);
  }

  @Test
  void everyLinkLeadsSomewhere() throws IOException {
    List<String> links =
        LINK.matcher(Files.readString(GUIDE)).results().map(GuideTest::target).toList();
    assertThat(links).isNotEmpty();
    for (String link : links) {
      assertThat(GUIDE.resolveSibling(link)).exists();
    }
  }

  private static String target(MatchResult link) {
    return link.group(1);
  }
}
