package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;

/** The Java code in a document: taken out, compiled and run. */
final class DocumentCode {
  private static final Pattern JAVA = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);

  /** What the examples of a document may take for granted. They close what they open. */
  private static final String AROUND =
      """
      import dev.metalstreams.*;
      import dev.metalstreams.batch.*;
      import java.time.*;
      import java.util.*;
      import java.util.concurrent.*;

      public class Example {
        static Graph classifier(int rows) {
          return Graph.build(g -> g.output("y", g.relu(g.linear(
              g.input("x", DType.F32, rows, 4),
              g.constant(new float[] {1, 2, 3, 4, -1, -2, -3, -4}, 2, 4),
              g.constant(new float[] {0.5f, 0}, 2)))));
        }

        public static void main(String[] args) throws Exception {
          float[] image = {1, 1, 1, 1};
          try (Device device = Device.builder().backend("host").open();
              Executable layer = device.compile(classifier(1));
              Tensor x = device.tensor(image, 1, 4)) {
            long before = device.memory().stats().allocated();
            {
      STATEMENTS
            }
            device.synchronize();
            if (device.memory().stats().allocated() != before) {
              throw new AssertionError("something was not closed: " + device.memory().stats());
            }
          }
        }
      }
      """;

  private DocumentCode() {}

  /** The blocks of Java in a document, in their order. */
  static List<String> blocks(Path document) throws IOException {
    return JAVA.matcher(Files.readString(document)).results().map(match -> match.group(1)).toList();
  }

  /** Statements that take for granted what {@link #AROUND} has, made a program. */
  static String program(String statements) {
    return AROUND.replace("STATEMENTS", statements);
  }

  /** Compiles a program whose class is {@code Example}, runs it, and gives what it prints. */
  static String run(String program, Path folder) throws Exception {
    Path source = Files.writeString(folder.resolve("Example.java"), program);
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

    PrintStream before = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    try (URLClassLoader loader =
        new URLClassLoader(
            new URL[] {folder.toUri().toURL()}, Thread.currentThread().getContextClassLoader())) {
      System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
      loader
          .loadClass("Example")
          .getMethod("main", String[].class)
          .invoke(null, (Object) new String[0]);
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n");
  }
}
