package dev.metalstreams.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * C's side of a comparison: {@code mst_bench}, built with the shim. A process of its own for each
 * measurement.
 */
final class CProgram {
  private final Path program;
  private final @Nullable Path blas;
  private final String math;

  /**
   * The program that was built here.
   *
   * @param build where CMake built the shim
   * @param math what a device of this process multiplies with: C must say the same of its own
   */
  CProgram(Path build, String math) {
    this.program = build.resolve("test").resolve("mst_bench");
    this.blas = loadedBlas();
    this.math = math;
  }

  /** OpenBLAS as a device of this process has loaded it; null where the system has a BLAS. */
  private static @Nullable Path loadedBlas() {
    Path maps = Path.of("/proc/self/maps");
    if (!Files.exists(maps)) {
      return null;
    }
    try (Stream<String> lines = Files.lines(maps)) {
      return lines
          .filter(line -> line.contains("/libopenblas"))
          .map(line -> Path.of(line.substring(line.indexOf('/'))))
          .findFirst()
          .orElse(null);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Runs the program and gives one figure of its answer. */
  double measure(String figure, String... arguments) {
    List<String> command = new ArrayList<>(List.of(program.toString()));
    command.addAll(Arrays.asList(arguments));
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.redirectError(ProcessBuilder.Redirect.INHERIT);
    if (blas != null) {
      command.addAll(List.of("--math", blas.toString()));
    }
    String answer = answer(builder);
    if (!answer.contains("\"" + math + "\"")) {
      throw new IllegalStateException(
          "C computes with another library than " + math + ": " + answer);
    }
    Matcher found = Pattern.compile('"' + figure + "\": ([0-9.]+)").matcher(answer);
    if (!found.find()) {
      throw new IllegalStateException("no " + figure + " in " + answer);
    }
    return Double.parseDouble(found.group(1));
  }

  private static String answer(ProcessBuilder builder) {
    try {
      Process process = builder.start();
      String answer = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      int status = process.waitFor();
      if (status != 0) {
        throw new IllegalStateException(builder.command() + " ended with status " + status);
      }
      return answer;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted", e);
    }
  }
}
