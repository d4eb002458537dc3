package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.code_intelligence.jazzer.api.FuzzedDataProvider;
import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Any command line is understood, or refused in one line with exit status 2. The commands are the
 * real ones up to the point where they would run. In ordinary test runs the kept inputs are read
 * again; {@code tests/fuzz} looks for new ones.
 */
class CommandLineFuzzTest {
  private static final List<Command> COMMANDS =
      Main.commands().stream().<Command>map(ReadOnly::new).toList();

  /** A command that reads all of its options and does nothing. */
  private record ReadOnly(Command real) implements Command {
    @Override
    public String name() {
      return real.name();
    }

    @Override
    public String summary() {
      return real.summary();
    }

    @Override
    public String description() {
      return real.description();
    }

    @Override
    public List<Parameter<?>> parameters() {
      return real.parameters();
    }

    @Override
    public ExitStatus run(Invocation invocation) {
      parameters()
          .forEach(parameter -> assertThat(invocation.values().find(parameter)).isNotNull());
      assertThat(invocation.seed()).isNotNegative();
      return ExitStatus.OK;
    }
  }

  @FuzzTest
  void aCommandLineIsUnderstoodOrRefusedInOneLine(FuzzedDataProvider data) {
    List<String> words = new ArrayList<>();
    Command command = data.pickValue(COMMANDS);
    List<Parameter<?>> options = new ArrayList<>(command.parameters());
    options.addAll(CommonOptions.ALL);
    if (data.consumeInt(0, 9) > 0) {
      words.add(command.name());
    }
    while (data.remainingBytes() > 0 && words.size() < 20) {
      if (data.consumeBoolean()) {
        words.add("--" + data.pickValue(options).name());
      } else {
        words.add(data.consumeString(40));
      }
    }
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    ExitStatus status =
        Main.run(words, COMMANDS, new Output(stream(out), stream(err), false), new StopSignal());
    String complaint = err.toString(StandardCharsets.UTF_8);
    if (status == ExitStatus.OK) {
      assertThat(complaint).isEmpty();
    } else {
      assertThat(status).isEqualTo(ExitStatus.BAD_USAGE);
      assertThat(out.toString(StandardCharsets.UTF_8)).isEmpty();
      assertThat(complaint).startsWith(Main.PROGRAM + ": ").endsWith("\n");
      assertThat(complaint.substring(0, complaint.length() - 1).codePoints())
          .as("what a terminal would obey")
          .noneMatch(Character::isISOControl)
          .noneMatch(point -> Character.getType(point) == Character.FORMAT);
    }
  }

  private static PrintStream stream(ByteArrayOutputStream bytes) {
    return new PrintStream(bytes, true, StandardCharsets.UTF_8);
  }
}
