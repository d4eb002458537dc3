package dev.metalstreams.cli;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;

/**
 * Runs rounds, each in a JVM of its own: what happens to it is counted, not suffered. Where this
 * program was started from is where the child comes from.
 *
 * @param childMain the class with the child's main method
 * @param module the module that it is in; empty on the class path
 * @param timeout after which a child that is still there hangs, and is killed
 */
record ReproRounds(String childMain, String module, Duration timeout) {
  private static final int SIGNAL = 128;

  /** How a round went. */
  enum Kind {
    /** All results were right. */
    SUCCEEDED,
    /** The process ended without a word. */
    CRASHED,
    /** A result was wrong. */
    WRONG,
    /** Something was refused or failed, and said so. */
    FAILED,
    /** It did not end in time. */
    HUNG,
    /** It cannot be run here. */
    UNSUPPORTED
  }

  /**
   * A round.
   *
   * @param kind how it went
   * @param words the last that was heard of it
   */
  record Round(Kind kind, String words) {}

  /** Rounds of this program, whether it runs as a module or not. */
  static ReproRounds ofProcess(Duration timeout) {
    Module module = ReproChild.class.getModule();
    return new ReproRounds(
        ReproChild.class.getName(), module.isNamed() ? module.getName() : "", timeout);
  }

  /** Runs one round with these arguments. */
  Round run(List<String> arguments) {
    Path folder = null;
    try {
      folder = Files.createTempDirectory("metalstreams-repro");
      return run(arguments, folder);
    } catch (IOException e) {
      throw new UncheckedIOException("a child process cannot be started", e);
    } finally {
      if (folder != null) {
        delete(folder);
      }
    }
  }

  private Round run(List<String> arguments, Path folder) throws IOException {
    Process child =
        new ProcessBuilder(command(arguments, folder)).redirectErrorStream(true).start();
    AtomicReference<String> last = new AtomicReference<>("");
    Thread reader = Thread.ofPlatform().daemon().start(() -> keepLastWords(child, last));
    try {
      child.getOutputStream().close();
      boolean ended = child.waitFor(timeout.toMillis(), TimeUnit.MILLISECONDS);
      if (!ended) {
        child.destroyForcibly().waitFor();
      }
      reader.join();
      return ended
          ? round(child.exitValue(), last.get())
          : new Round(Kind.HUNG, "no end within " + timeout.toSeconds() + " s");
    } catch (InterruptedException e) {
      child.destroyForcibly();
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while a child process ran", e);
    }
  }

  private List<String> command(List<String> arguments, Path folder) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    // Short-lived, many of them, and expected to crash.
    command.addAll(
        List.of("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable"));
    command.add("-XX:-CreateCoredumpOnCrash");
    command.add("-XX:ErrorFile=" + folder.resolve("error.log"));
    if (module.isEmpty()) {
      command.add("--enable-native-access=ALL-UNNAMED");
      command.addAll(List.of("--class-path", property("java.class.path"), childMain));
    } else {
      command.add("--enable-native-access=dev.metalstreams.bindings");
      command.addAll(List.of("--module-path", property("jdk.module.path")));
      command.addAll(List.of("--class-path", property("java.class.path")));
      command.addAll(List.of("--module", module + "/" + childMain));
    }
    command.addAll(arguments);
    return command;
  }

  private static String property(String name) {
    Properties all = System.getProperties();
    return all.getProperty(name, "");
  }

  /** The last line, but for what the JVM says of its own end. */
  private static void keepLastWords(Process child, AtomicReference<String> last) {
    try (BufferedReader lines =
        new BufferedReader(new InputStreamReader(child.getInputStream(), StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (!line.isBlank() && !line.startsWith("#")) {
          last.set(line);
        }
      }
    } catch (IOException e) {
      last.set(OneLine.of(e)); // it was killed
    }
  }

  private static Round round(int exit, String last) {
    if (exit != 0 || !last.startsWith(ReproChild.MARK)) {
      String end = exit > SIGNAL ? "signal " + (exit - SIGNAL) : "exit status " + exit;
      return new Round(Kind.CRASHED, last.isEmpty() ? end : end + ": " + last);
    }
    String outcome = last.substring(ReproChild.MARK.length());
    String word = outcome.split(" ", 2)[0];
    Kind kind =
        switch (word) {
          case ReproChild.RIGHT -> Kind.SUCCEEDED;
          case ReproChild.WRONG -> Kind.WRONG;
          case ReproChild.UNSUPPORTED -> Kind.UNSUPPORTED;
          default -> Kind.FAILED;
        };
    return new Round(kind, outcome.substring(word.length()).strip());
  }

  private static void delete(Path folder) {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.deleteIfExists(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException("a folder of temporary files cannot be removed", e);
    }
  }
}
