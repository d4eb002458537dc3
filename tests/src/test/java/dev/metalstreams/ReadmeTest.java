package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The README does what it says: its Java code compiles, runs and prints what its comment promises;
 * its settings are all.
 */
class ReadmeTest {
  private static final Path README = Path.of("..", "README.md");
  private static final Pattern JAVA = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);

  @TempDir private Path folder;

  @Test
  void theExampleCompilesAndPrintsWhatItSays() throws Exception {
    List<String> blocks =
        JAVA.matcher(Files.readString(README)).results().map(MatchResult::group).toList();
    assertThat(blocks).hasSize(1);
    Matcher code = JAVA.matcher(blocks.get(0));
    assertThat(code.find()).isTrue();
    Path source = Files.writeString(folder.resolve("Example.java"), code.group(1));

    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    StringWriter complaints = new StringWriter();
    boolean compiled =
        compiler
            .getTask(
                complaints,
                null,
                null,
                List.of(
                    "-d",
                    folder.toString(),
                    "-proc:none",
                    "-classpath",
                    System.getProperty("java.class.path")),
                null,
                compiler
                    .getStandardFileManager(null, null, null)
                    .getJavaFileObjects(source.toFile()))
            .call();
    assertThat(compiled).as(complaints.toString()).isTrue();

    assertThat(run("Example")).isEqualTo("[10.5, 26.0, 0.0]\n".repeat(8));
  }

  private String run(String main) throws Exception {
    PrintStream before = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    try (URLClassLoader loader =
        new URLClassLoader(
            new URL[] {folder.toUri().toURL()}, Thread.currentThread().getContextClassLoader())) {
      System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
      loader.loadClass(main).getMethod("main", String[].class).invoke(null, (Object) new String[0]);
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n");
  }

  @Test
  void everySettingIsInTheTable() throws Exception {
    String readme = Files.readString(README);
    for (Settings.Key key : Settings.Key.values()) {
      assertThat(readme).contains("| `" + key.label + "` | `" + key.environment + "` |");
    }
  }
}
