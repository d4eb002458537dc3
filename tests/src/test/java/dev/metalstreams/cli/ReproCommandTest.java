package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.cli.ReproRounds.Kind;
import dev.metalstreams.cli.ReproRounds.Round;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * What comes of a round, whatever becomes of its process. The defects themselves are run on the
 * simulated Metal, by {@code tests/sim/command.sh}.
 */
class ReproCommandTest {

  /** A child that does as it is told. */
  static final class Child {
    private Child() {}

    public static void main(String[] args) throws Exception {
      System.out.println("something of no interest");
      switch (args[0]) {
        case "say" -> System.out.println(ReproChild.MARK + args[1]);
        case "die" -> {
          System.out.println("about to die");
          // By a signal, as a process that aborts or touches foreign memory does.
          long self = ProcessHandle.current().pid();
          new ProcessBuilder("kill", "-" + args[1], Long.toString(self)).start().waitFor();
          stay();
        }
        case "throw" -> throw new IllegalStateException("thrown");
        case "stay" -> stay();
        default -> {
          // Ends in peace, and without a word.
        }
      }
    }

    private static void stay() {
      while (true) {
        LockSupport.park();
      }
    }
  }

  private static Round round(Duration timeout, String... arguments) {
    return new ReproRounds(Child.class.getName(), "", timeout).run(List.of(arguments));
  }

  private static Round round(String... arguments) {
    return round(Duration.ofMinutes(5), arguments);
  }

  @ParameterizedTest
  @CsvSource({
    "right, SUCCEEDED, ''",
    "wrong element 3 is 1 not 2, WRONG, element 3 is 1 not 2",
    "failed a command buffer failed, FAILED, a command buffer failed",
    "unsupported not here, UNSUPPORTED, not here"
  })
  void aRoundIsWhatItSays(String said, Kind kind, String words) {
    assertThat(round("say", said)).isEqualTo(new Round(kind, words));
  }

  @ParameterizedTest
  @CsvSource({"ABRT, signal 6", "KILL, signal 9"})
  void aCrashIsCounted(String signal, String words) {
    assertThat(round("die", signal)).isEqualTo(new Round(Kind.CRASHED, words + ": about to die"));
  }

  /** The JVM has words of its own for this one, which are left out. */
  @Test
  void aCrashThatTheJvmReportsIsCounted() {
    Round round = round("die", "SEGV");
    assertThat(round.kind()).isEqualTo(Kind.CRASHED);
    assertThat(round.words()).doesNotContain("#");
  }

  @Test
  void anEndWithoutAWordIsACrash() {
    assertThat(round("end").kind()).isEqualTo(Kind.CRASHED);
    Round round = round("throw");
    assertThat(round.kind()).isEqualTo(Kind.CRASHED);
    assertThat(round.words()).startsWith("exit status 1: ");
  }

  @Test
  void aHangIsCountedAndEnds() {
    assertThat(round(Duration.ofMillis(500), "stay").kind()).isEqualTo(Kind.HUNG);
  }

  @Test
  void threadCountsEndWithTheMost() {
    assertThat(ReproCommand.threadCounts(1)).containsExactly(1);
    assertThat(ReproCommand.threadCounts(3)).containsExactly(1, 2, 3);
    assertThat(ReproCommand.threadCounts(8)).containsExactly(1, 2, 3, 4, 8);
    assertThat(ReproCommand.threadCounts(12)).containsExactly(1, 2, 3, 4, 8, 12);
  }

  @ParameterizedTest
  @EnumSource(Defect.class)
  void needsMetal(Defect defect) {
    CommandRun run = CommandRun.of("repro", defect.label(), "--backend", "host");
    assertThat(run.status()).isEqualTo(3);
    assertThat(run.out()).isEmpty();
    assertThat(run.err().lines()).hasSize(1);
    assertThat(run.err()).contains("repro needs the Metal backend", "here the backend is host");
    assertThat(CommandRun.of("repro", defect.label(), "--backend", "host", "--json").json())
        .containsEntry("ok", false)
        .containsKey("error");
  }

  @Test
  void helpNamesEveryDefectAndTheMisuse() {
    CommandRun run = CommandRun.line("repro --help");
    assertThat(run.status()).isZero();
    assertThat(run.out()).startsWith("Usage: metalstreams repro DEFECT [OPTIONS]");
    assertThat(run.out()).contains(Defect.labels());
    assertThat(run.out()).contains("API misuse");
  }
}
