package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is refused, and how it is said; what helps. */
class CommandLineTest {

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          ''                                   | no command given; there are info, stress, infer, verify, bench, tune, repro
          trace                                | unknown command 'trace'; there are info, stress, infer, verify, bench, tune, repro
          repro                                | DEFECT is missing; it is one of ndarray-matmul, compute-kernel, shared-command-buffer
          repro matmul                         | DEFECT is one of ndarray-matmul, compute-kernel, shared-command-buffer, not 'matmul'
          repro compute-kernel ndarray-matmul  | unexpected argument 'ndarray-matmul'
          repro compute-kernel --rounds 0      | --rounds takes a whole number from 1 to 100000, not '0'
          repro compute-kernel --threads 65    | --threads takes a whole number from 1 to 64, not '65'
          repro compute-kernel --timeout 0s    | --timeout takes a time above zero
          STRESS                               | unknown command 'STRESS'
          --json stress                        | the command comes first, but '--json' was found
          stress now                           | unexpected argument 'now'
          stress --nothing                     | unknown option --nothing
          stress --thread 8                    | unknown option --thread
          stress -t 8                          | unknown option -t
          stress --threads                     | --threads takes a whole number from 1 to 10000, but no value follows it
          stress --threads --json              | --threads takes a whole number from 1 to 10000, but no value follows it
          stress --threads 0                   | --threads takes a whole number from 1 to 10000, not '0'
          stress --threads -1                  | --threads takes a whole number from 1 to 10000, not '-1'
          stress --threads 10001               | --threads takes a whole number from 1 to 10000, not '10001'
          stress --threads 99999999999999999999 | --threads takes a whole number from 1 to 10000, not '99999999999999999999'
          stress --threads eight               | --threads takes a whole number from 1 to 10000, not 'eight'
          stress --threads 8.0                 | --threads takes a whole number from 1 to 10000, not '8.0'
          stress --threads=                    | --threads takes a whole number from 1 to 10000
          stress --threads 8 --threads 9       | --threads was given 2 times
          stress --iterations 0                | --iterations takes a whole number from 1 to 1000000000, not '0'
          stress --iterations 9999999999       | --iterations takes a whole number from 1 to 1000000000, not '9999999999'
          stress --seed -1                     | --seed takes a whole number of at least 0, not '-1'
          stress --seed 9223372036854775808    | --seed takes a whole number of at least 0, not '9223372036854775808'
          stress --duration 0s                 | --duration takes a time above zero such as 500ms, 30s, 5m or 1h, at most 30 days, not '0s'
          stress --duration 30                 | --duration takes a time above zero
          stress --duration -5s                | --duration takes a time above zero
          stress --duration 1d                 | --duration takes a time above zero
          stress --duration 999999999999999999h | --duration takes a time above zero
          stress --duration 721h               | --duration takes a time above zero
          stress --workload digit              | --workload takes one of digits, transformer, matmul, not 'digit'
          stress --size 0 --workload matmul    | --size takes a whole number from 1 to 2048, not '0'
          stress --size 64                     | --size goes only with --workload matmul
          stress --pool-size 0                 | --pool-size takes a whole number from 1 to 1024, not '0'
          stress --pool-size 1025              | --pool-size takes a whole number from 1 to 1024, not '1025'
          stress --exhaustion never            | --exhaustion takes one of oversubscribe, fail, wait, timeout, not 'never'
          stress --timeout 5s                  | --timeout goes only with --exhaustion timeout
          stress --timeout 5s --exhaustion wait | --timeout goes only with --exhaustion timeout
          stress --timeout never --exhaustion timeout | --timeout takes a time above zero
          stress --churn=yes                   | unknown option --churn=yes
          stress --exhaustion wait --pool-size 1 | --exhaustion needs a pool of 2 streams or more
          stress --backend cuda                | --backend takes one of auto, host, metal, not 'cuda'
          infer --arch rnn                     | --arch takes one of mlp, transformer, not 'rnn'
          infer --batch 0                      | --batch takes a whole number from 1 to 65536, not '0'
          infer --threads -8                   | --threads takes a whole number from 1 to 10000, not '-8'
          infer --iterations 8                 | unknown option --iterations
          infer --model                        | --model takes the path of a file, but no value follows it
          infer --model=                       | --model takes the path of a file
          info --threads 8                     | unknown option --threads
          bench                                | TABLE is missing; it is one of threads, sync, sizes, batch, alloc, overhead, all
          bench everything                     | TABLE is one of threads, sync, sizes, batch, alloc, overhead, all, not 'everything'
          bench threads sync                   | unexpected argument 'sync'
          bench threads --threads              | --threads takes whole numbers from 1 to 1000 with commas between them, but no value follows it
          bench threads --threads 1,0          | --threads takes whole numbers from 1 to 1000 with commas between them, not '1,0'
          bench threads --threads 1,,2         | --threads takes whole numbers from 1 to 1000 with commas between them, not '1,,2'
          bench threads --threads 1001         | --threads takes whole numbers from 1 to 1000 with commas between them, not '1001'
          bench threads --threads 1;2          | --threads takes whole numbers from 1 to 1000 with commas between them, not '1;2'
          bench sizes --sizes 4097             | --sizes takes whole numbers from 1 to 4096 with commas between them, not '4097'
          bench threads --sizes 64             | --sizes goes only with bench sizes
          bench sync --threads 2               | --threads goes only with bench threads or sizes
          bench alloc --submitters 2           | --submitters goes only with bench batch
          bench sync --size 0                  | --size takes a whole number from 1 to 4096, not '0'
          bench batch --in-flight 0            | --in-flight takes a whole number from 1 to 1000, not '0'
          bench batch --max-delay 0s           | --max-delay takes a time above zero
          bench sync --rounds 0                | --rounds takes a whole number from 1 to 1000, not '0'
          bench sync --duration soon           | --duration takes a time above zero
          bench sync --html=                   | --html takes the path of a file
          tune --shape 64                      | --shape takes 2 to 16 whole numbers from 1 to 8192 with x between them, not '64'
          tune --shape 64x                     | --shape takes 2 to 16 whole numbers from 1 to 8192 with x between them, not '64x'
          tune --shape 64x0                    | --shape takes 2 to 16 whole numbers from 1 to 8192 with x between them, not '64x0'
          tune --max-batch 4097                | --max-batch takes a whole number from 1 to 4096, not '4097'
          --version 2                          | --version stands alone, but '2' follows it
          help everything                      | unknown command 'everything'; there are info
          tune digits                          | unexpected argument 'digits'
          """)
  void refusedInOneLine(String line, String fault) {
    CommandRun.line(line).assertRefused(fault);
  }

  @Test
  void refusalsShowNoControlCharacters() {
    CommandRun.of("stress", "--threads", "8\n\u001b[31m").assertRefused("not '8");
    CommandRun.of("stress\nnow").assertRefused("unknown command");
    assertThat(CommandRun.of("stress", "--threads", "\u001b[31m").err()).doesNotContain("\u001b");
  }

  @ParameterizedTest
  @ValueSource(strings = {"--help", "help", "-h"})
  void helpOfTheWhole(String word) {
    CommandRun run = CommandRun.of(word);
    assertThat(run.status()).isZero();
    assertThat(run.err()).isEmpty();
    assertThat(run.out())
        .contains(
            "Usage: metalstreams COMMAND",
            "info ",
            "stress ",
            "infer ",
            "verify ",
            "bench ",
            "tune ",
            "repro ",
            "--backend",
            "--version");
  }

  @Test
  void helpOfACommandInEitherOrder() {
    CommandRun run = CommandRun.of("help", "stress");
    assertThat(run.status()).isZero();
    assertThat(run.out()).isEqualTo(CommandRun.of("stress", "--help").out());
  }

  static Stream<Command> commands() {
    return Main.commands().stream();
  }

  @ParameterizedTest
  @MethodSource("commands")
  void helpOfACommandNamesEveryOption(Command command) {
    CommandRun run = CommandRun.of(command.name(), "--help");
    assertThat(run.status()).isZero();
    assertThat(run.err()).isEmpty();
    assertThat(run.out()).startsWith("Usage: metalstreams " + command.name());
    for (List<Parameter<?>> parameters : List.of(command.parameters(), CommonOptions.ALL)) {
      for (Parameter<?> parameter : parameters) {
        assertThat(run.out()).contains("--" + parameter.name() + " ");
        parameter
            .fallback()
            .ifPresent(fallback -> assertThat(run.out()).contains("(default: " + fallback + ")"));
      }
    }
    assertThat(run.out().lines()).allMatch(line -> line.length() <= 120);
  }

  @Test
  void helpWinsOverWrongValues() {
    assertThat(CommandRun.line("stress --threads 0 --help").status()).isZero();
  }

  /** A default that the option itself would refuse is a mistake here. */
  @ParameterizedTest
  @MethodSource("commands")
  void defaultsAreWithinBounds(Command command) {
    for (Parameter<?> parameter : command.parameters()) {
      parameter.fallback().ifPresent(fallback -> assertThat(parameter.parse(fallback)).isNotNull());
    }
  }

  @Test
  void version() {
    CommandRun run = CommandRun.of("--version");
    assertThat(run.status()).isZero();
    assertThat(run.out()).matches("metalstreams [0-9]+\\.[0-9]+\\.[0-9]+\\S*\\R");
  }
}
