package dev.metalstreams.launcher;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * {@code cli/metalstreams} in a tree of its own, with a Maven and a JDK that only note how they
 * were called.
 */
@Timeout(60)
class LauncherTest {

  /** What the launcher finds on the PATH, besides what a test puts there. */
  private static final List<String> TOOLS =
      List.of(
          "sh",
          "cat",
          "dirname",
          "find",
          "grep",
          "head",
          "ln",
          "mkdir",
          "readlink",
          "rm",
          "rmdir",
          "sed",
          "sleep",
          "tail",
          "touch");

  /** Notes the call, and lays out what a build does. */
  private static final String MAVEN =
      """
      #!/bin/sh
      echo "$@" >>"$ROOT/mvn-calls"
      echo "[INFO] compiling"
      mkdir -p cli/target/lib/natives
      rm -rf cli/target/lib/modules
      mkdir cli/target/lib/modules
      echo jar >cli/target/metalstreams-cli-1.2.3.jar
      """;

  @TempDir Path folder;
  private Path root;
  private Path bin;
  private Path launcher;

  @BeforeEach
  void layOut() throws IOException {
    root = Files.createDirectory(folder.resolve("the tree")).toRealPath();
    bin = Files.createDirectory(folder.resolve("bin"));
    launcher = root.resolve("cli/metalstreams");
    for (String source :
        List.of(
            "shim/host/queue.c",
            "bindings/src/main/java/B.java",
            "core/src/main/java/C.java",
            "cli/src/main/java/D.java",
            "bindings/pom.xml")) {
      write(root.resolve(source), "source");
    }
    write(root.resolve("pom.xml"), "<project>\n  <version>1.2.3</version>\n</project>\n");
    program(launcher, Files.readString(Path.of("../cli/metalstreams")));
    for (String tool : TOOLS) {
      program(bin.resolve(tool), "#!/bin/sh\nexec %s \"$@\"\n".formatted(find(tool)));
    }
    program(bin.resolve("mvn"), MAVEN);
    program(bin.resolve("cmake"), "#!/bin/sh\n");
    program(bin.resolve("cc"), "#!/bin/sh\n");
    jdk("jdk", "25.0.3");
    // Long ago, so that what a build lays out is newer, however coarse the clock of the file
    // system.
    age(root);
  }

  @Test
  void theFirstUseBuildsAndTheNextDoesNot() throws Exception {
    Run first = run("info");
    assertThat(first.status()).isZero();
    assertThat(first.error()).isEqualTo(BUILDING);
    assertThat(first.output())
        .containsSubsequence(
            "--module-path",
            root + "/cli/target/metalstreams-cli-1.2.3.jar:" + root + "/cli/target/lib/modules",
            "--class-path",
            root + "/cli/target/lib/natives/*",
            "--enable-native-access=dev.metalstreams.bindings",
            "--module",
            "dev.metalstreams.cli/dev.metalstreams.cli.Main",
            "info");

    Run second = run("info");
    assertThat(second.status()).isZero();
    assertThat(second.error()).isEmpty();
    assertThat(mavenCalls()).hasSize(1).first().asString().contains("-pl cli -am package");
    assertThat(root.resolve("target/launcher.lock")).doesNotExist();
  }

  @Test
  void aNewerSourceIsBuilt() throws Exception {
    run("info");
    for (String source :
        List.of(
            "shim/host/queue.c",
            "core/src/main/java/New.java",
            "cli/src/main/java/D.java",
            "bindings/pom.xml",
            "pom.xml")) {
      int before = mavenCalls().size();
      Path file = root.resolve(source);
      if (!Files.exists(file)) {
        write(file, "new");
      }
      Files.setLastModifiedTime(file, FileTime.from(Instant.now().plusSeconds(60)));
      run("info");
      assertThat(mavenCalls()).as(source).hasSize(before + 1);
      age(file.resolveSibling("."));
    }
  }

  @Test
  void whatIsEditedDuringABuildIsBuiltNextTime() throws Exception {
    program(bin.resolve("mvn"), MAVEN + "echo edited >core/src/main/java/C.java\n");
    run("info");
    run("info");

    assertThat(mavenCalls()).hasSize(2);
  }

  @Test
  void argumentsAndTheCurrentDirectoryAreKept() throws Exception {
    Path elsewhere = Files.createDirectory(folder.resolve("elsewhere"));
    Path link = Files.createSymbolicLink(elsewhere.resolve("link"), launcher);
    Path relative = Files.createSymbolicLink(folder.resolve("relative"), Path.of("elsewhere/link"));

    ProcessBuilder process = process(relative, "stress", "", "two words", "*", "--seed=1");
    process.directory(elsewhere.toFile());
    assertThat(link).isSymbolicLink();
    Run run = finish(process.start());

    assertThat(run.output()).endsWith("stress", "", "two words", "*", "--seed=1");
    assertThat(run.output()).startsWith("in " + elsewhere.toRealPath());
  }

  @Test
  void optionsForTheJvmComeBeforeTheModule() throws Exception {
    ProcessBuilder process = process(launcher, "info");
    process.environment().put("METALSTREAMS_JAVA_OPTIONS", "-Xmx1g -Done=1");
    assertThat(finish(process.start()).output())
        .containsSubsequence("-Xmx1g", "-Done=1", "--module", "info");
  }

  @Test
  void manyFirstUsesAtOnceBuildOnce() throws Exception {
    Path gate = root.resolve("gate");
    assertThat(new ProcessBuilder("mkfifo", gate.toString()).start().waitFor()).isZero();
    program(bin.resolve("mvn"), MAVEN + "read -r line <\"$ROOT/gate\"\n");
    List<Process> processes = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      processes.add(process(launcher, "info").start());
    }
    // One builds, and stands at the gate; all others say that they wait.
    int waiting = 0;
    for (Process process : processes) {
      String line = new BufferedReader(process.errorReader(UTF_8)).readLine();
      waiting += line.startsWith("metalstreams: waiting for another build") ? 1 : 0;
    }
    assertThat(waiting).isEqualTo(3);
    Files.writeString(gate, "open\n");

    for (Process process : processes) {
      assertThat(process.waitFor()).isZero();
    }
    assertThat(mavenCalls()).hasSize(1);
  }

  @Test
  void aLockWhoseHolderDiedIsTakenOverAndItsBuildIsForgotten() throws Exception {
    run("info");
    Process dead = new ProcessBuilder("true").start();
    dead.waitFor();
    Files.createSymbolicLink(
        root.resolve("target/launcher.lock"), Path.of(Long.toString(dead.pid())));

    assertThat(run("info").status()).isZero();
    assertThat(mavenCalls()).hasSize(2);
  }

  @Test
  void aFailedBuildShowsItsErrorsAndLetsTheNextTry() throws Exception {
    program(bin.resolve("mvn"), "#!/bin/sh\necho '[INFO] fine'\necho '[ERROR] broken'\nexit 1\n");
    Run failed = run("info");

    assertThat(failed.status()).isEqualTo(3);
    assertThat(failed.output()).isEmpty();
    assertThat(failed.error())
        .contains("[ERROR] broken", "metalstreams: the build failed", "target/launcher.log")
        .doesNotContain("[INFO]");

    program(bin.resolve("mvn"), MAVEN);
    assertThat(run("info").status()).isZero();
  }

  @Test
  void aSignalDuringTheBuildEndsItAndFreesTheLock() throws Exception {
    Path gate = root.resolve("gate");
    assertThat(new ProcessBuilder("mkfifo", gate.toString()).start().waitFor()).isZero();
    program(bin.resolve("mvn"), "#!/bin/sh\necho $$ >\"$ROOT/gate\"\nexec cat \"$ROOT/gate\"\n");
    Process process = process(launcher, "info").start();
    long maven = Long.parseLong(Files.readString(gate).strip());

    process.destroy();

    assertThat(process.waitFor()).isEqualTo(130);
    assertThat(root.resolve("target/launcher.lock")).doesNotExist();
    ProcessHandle.of(maven).ifPresent(handle -> handle.onExit().join());
  }

  @Test
  void aJdkThatIsTooOldIsPassedOver() throws Exception {
    Path old = jdk("old", "17.0.1");
    Path next = jdk("next", "26");
    ProcessBuilder process = process(launcher, "info");
    process.environment().remove("METALSTREAMS_JAVA_HOME");
    process.environment().put("JAVA_HOME", old.toString());
    Files.createSymbolicLink(bin.resolve("java"), next.resolve("bin/java"));

    assertThat(finish(process.start()).output()).contains("by " + next);
  }

  @Test
  void aJdkThatWasNamedButIsTooOldIsRefused() throws Exception {
    Path old = jdk("old", "17.0.1");
    ProcessBuilder process = process(launcher, "info");
    process.environment().put("METALSTREAMS_JAVA_HOME", old.toString());
    Run run = finish(process.start());

    assertThat(run.status()).isEqualTo(3);
    assertThat(run.error())
        .isEqualTo(
            "metalstreams: METALSTREAMS_JAVA_HOME=%s is not a JDK 25 or newer; set it to one, or unset it\n"
                .formatted(old));
  }

  @Test
  void whatIsMissingForTheBuildIsNamed() throws Exception {
    for (String tool : List.of("mvn", "cmake", "cc")) {
      byte[] program = Files.readAllBytes(bin.resolve(tool));
      Files.delete(bin.resolve(tool));
      Run run = run("info");
      assertThat(run.status()).as(tool).isEqualTo(3);
      assertThat(run.error())
          .startsWith("metalstreams: " + tool + " is needed to build on first use")
          .hasLineCount(1);
      program(bin.resolve(tool), new String(program, UTF_8));
    }
  }

  private static final String BUILDING =
      "metalstreams: building first, about a minute when nothing is there yet ...\n";

  private record Run(int status, List<String> output, String error) {}

  private Run run(String... arguments) throws IOException, InterruptedException {
    return finish(process(launcher, arguments).start());
  }

  private static Run finish(Process process) throws IOException, InterruptedException {
    List<String> output = process.inputReader(UTF_8).lines().toList();
    String error = new String(process.getErrorStream().readAllBytes(), UTF_8);
    return new Run(process.waitFor(), output, error);
  }

  private ProcessBuilder process(Path program, String... arguments) {
    List<String> command = new ArrayList<>(List.of(program.toString()));
    command.addAll(List.of(arguments));
    ProcessBuilder process = new ProcessBuilder(command);
    process.environment().clear();
    process.environment().put("PATH", bin.toString());
    process.environment().put("HOME", folder.toString());
    process.environment().put("ROOT", root.toString());
    process.environment().put("METALSTREAMS_JAVA_HOME", folder.resolve("jdk").toString());
    return process;
  }

  private List<String> mavenCalls() throws IOException {
    Path calls = root.resolve("mvn-calls");
    return Files.exists(calls) ? Files.readAllLines(calls) : List.of();
  }

  /** A JDK whose java prints where it runs, which it is, and each argument on a line. */
  private Path jdk(String name, String version) throws IOException {
    Path home = folder.resolve(name);
    write(home.resolve("release"), "JAVA_VERSION=\"" + version + "\"\n");
    program(
        home.resolve("bin/java"),
        """
        #!/bin/sh
        echo "in $PWD"
        echo "by %s"
        for argument in "$@"; do echo "$argument"; done
        """
            .formatted(home));
    return home;
  }

  private static Path find(String tool) {
    for (String folder : List.of("/bin", "/usr/bin")) {
      if (Files.isExecutable(Path.of(folder, tool))) {
        return Path.of(folder, tool);
      }
    }
    throw new AssertionError("this system has no " + tool);
  }

  private static void program(Path file, String text) throws IOException {
    write(file, text);
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
  }

  private static void write(Path file, String text) throws IOException {
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private static void age(Path top) throws IOException {
    try (var files = Files.walk(top)) {
      for (Path file : files.toList()) {
        Files.setLastModifiedTime(file, FileTime.from(Instant.now().minusSeconds(3600)));
      }
    }
  }
}
