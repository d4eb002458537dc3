package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.DeviceStream;
import dev.metalstreams.MetalStreamsException;
import dev.metalstreams.StreamPool;
import dev.metalstreams.StreamRaceException;
import dev.metalstreams.Tensor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Sound runs hold; and each kind of trouble that stress is there to find, planted, is found. */
class StressCommandTest {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private static CommandRun stress(String options) {
    return CommandRun.line("stress --backend host --json " + options);
  }

  @Test
  void digits() {
    CommandRun run = stress("--threads 8 --iterations 10");
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("workload", "digits")
        .containsEntry("operations", 80.0)
        .containsEntry("mismatches", 0.0)
        .containsEntry("errors", 0.0)
        .containsEntry("threads", 8.0)
        .containsEntry("streams_used", 8.0)
        .containsEntry("memory.allocated", 0.0)
        .containsEntry("mixed.plain", 16.0)
        .containsEntry("mixed.hand_overs", 16.0)
        .containsEntry("mixed.closed_in_flight", 16.0)
        .containsEntry("mixed.events", 16.0)
        .containsEntry("mixed.fills_and_copies", 16.0)
        .containsKeys("memory.active", "memory.reserved", "latency_us.p90", "latency_us.p99");
    assertThat(run.number("mixed.device_synchronizes")).isPositive();
    assertThat(run.number("ops_per_second")).isPositive();
    assertThat(run.number("seconds")).isPositive();
    assertThat(run.number("memory.peak")).isPositive();
    assertThat(run.number("latency_us.max")).isGreaterThanOrEqualTo(run.number("latency_us.p50"));
  }

  @ParameterizedTest
  @CsvSource({
    "--churn,                                          20, 20",
    "--virtual,                                        4,  20",
    "--virtual --churn,                                20, 20",
    "--threads 40 --iterations 2,                      31, 80",
    "--pool-size 1,                                    1,  20",
    "--pool-size 3,                                    2,  20",
    "--workload matmul --size 33,                      4,  20",
    "--workload transformer,                           4,  20",
    "--workload matmul --size 1,                       4,  20",
    "--exhaustion wait --pool-size 2,                  1,  20",
    "--exhaustion timeout --timeout 1m --pool-size 2,  1,  20",
  })
  void variants(String options, int streams, int operations) {
    String size = options.contains("--threads") ? "" : "--threads 4 --iterations 5 ";
    CommandRun run = stress(size + options);
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("operations", (double) operations)
        .containsEntry("streams_used", (double) streams);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--seed 1",
        "--churn",
        "--virtual --churn",
        "--pool-size 31 --virtual",
        "--pool-size 3",
        "--workload matmul --size 33",
        "--workload transformer",
        "--exhaustion oversubscribe --pool-size 3",
      })
  void hasNoRaces(String options) {
    for (String mode : List.of("detect", "order")) {
      CommandRun run = stress("--iterations 5 --threads 8 " + options + " --hazards " + mode);
      assertThat(run.err()).isEmpty();
      assertThat(run.json())
          .containsEntry("ok", true)
          .containsEntry("hazards.mode", mode)
          .containsEntry("hazards.races", 0.0)
          .containsEntry("hazards.waits", 0.0);
      assertThat(run.number("hazards.operations")).isGreaterThan(run.number("operations"));
    }
    assertThat(stress("--iterations 5 " + options).json())
        .containsEntry("hazards.mode", "off")
        .containsEntry("hazards.operations", 0.0);
  }

  @Test
  void handsNothingOverWhereThereIsOneStream() {
    CommandRun run = stress("--threads 2 --iterations 5 --pool-size 1");
    assertThat(run.json()).containsEntry("mixed.hand_overs", 0.0).containsEntry("mixed.plain", 4.0);
  }

  @Test
  void sharedLeasesAreNeverRefused() {
    CommandRun run = stress("--threads 8 --iterations 5 --pool-size 2 --exhaustion oversubscribe");
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("operations", 40.0)
        .containsEntry("refused", 0.0);
  }

  /** A refusal is what the policy asked for: counted, and every job is accounted for. */
  @Test
  void refusalsAreCounted() {
    CommandRun run = stress("--threads 16 --iterations 20 --pool-size 2 --exhaustion fail");
    assertThat(run.json()).containsEntry("ok", true).containsEntry("errors", 0.0);
    assertThat(run.number("operations")).isPositive();
    assertThat(run.number("operations") + run.number("refused")).isEqualTo(320.0);
  }

  @Test
  void durationWinsOverIterations() {
    CommandRun run = stress("--threads 2 --iterations 1 --duration 300ms");
    assertThat(run.json()).containsEntry("ok", true);
    // With the iterations alone it would be over long before; how many it does instead is the
    // machine's.
    assertThat(run.number("seconds")).isGreaterThanOrEqualTo(0.3);
    assertThat(run.number("operations")).isGreaterThanOrEqualTo(2);
  }

  @Test
  void table() {
    CommandRun run = CommandRun.line("stress --backend host --threads 2 --iterations 5");
    assertThat(run.status()).isZero();
    assertThat(run.err()).isEmpty();
    assertThat(run.out())
        .contains(
            "ok", "10 compared, 0 mismatches, 0 errors", "2, on 2 streams", "p99", "hand overs");
  }

  // ---- faults

  @ParameterizedTest
  @CsvSource({
    "--threads 8 --iterations 60,                                         480",
    "--threads 8 --iterations 30 --virtual --churn,                       240",
    "--threads 40 --iterations 10 --pool-size 4,                          400",
    "--threads 8 --iterations 30 --pool-size 4 --exhaustion wait,         240",
    "--threads 4 --iterations 20 --workload transformer,                  80",
  })
  void everyFaultIsAccountedFor(String options, int operations) {
    CommandRun run = stress("--faults --seed 7 " + options);
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("operations", (double) operations)
        .containsEntry("mismatches", 0.0)
        .containsEntry("errors", 0.0)
        .containsEntry("memory.allocated", 0.0);
    assertThat(run.status()).isZero();
    double injected = run.number("faults.injected");
    assertThat(injected).isPositive();
    assertThat(run.number("faults.refused_calls") + run.number("faults.failed_command_buffers"))
        .isEqualTo(injected);
    assertThat(
            run.number("faults.seen_by_jobs")
                + run.number("faults.seen_by_synchronizes")
                + run.number("faults.absorbed"))
        .isEqualTo(injected);
    assertThat(run.number("faults.attempts_repeated")).isPositive();
  }

  @Test
  void aFailureThatWasNotMadeOnPurposeIsAnErrorAllTheSame() {
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    throw new IllegalStateException("planted");
                  }
                },
            PATIENCE,
            "--iterations 2 --faults");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.err()).contains("planted");
    assertThat(run.number("errors")).isGreaterThanOrEqualTo(4);
  }

  /** A stream that is reset although its failure is not over lets wrong results through. */
  @Test
  void aResultOfFailedWorkIsFound() {
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    Tensor result = workload.run(stream, inputs);
                    try {
                      stream.synchronize();
                      return result;
                    } catch (MetalStreamsException e) {
                      result.close();
                      if (stream.failure().isPresent()) {
                        stream.reset();
                      }
                      // Memory that only the failed work was to write, taken for its result.
                      return stream.device().tensor(new float[320], 32, 10);
                    }
                  }
                },
            PATIENCE,
            "--iterations 200 --faults --seed 3");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.number("mismatches")).isPositive();
  }

  // ---- planted trouble

  /** Passes everything on to a workload. Tests change one thing. */
  private static class Wrapped implements Workload {
    final Workload workload;

    Wrapped(Workload workload) {
      this.workload = workload;
    }

    @Override
    public String name() {
      return workload.name();
    }

    @Override
    public int cases() {
      return workload.cases();
    }

    @Override
    public long[] resultShape() {
      return workload.resultShape();
    }

    @Override
    public List<Tensor> upload(int number) {
      return workload.upload(number);
    }

    @Override
    public Tensor run(DeviceStream stream, List<Tensor> inputs) {
      return workload.run(stream, inputs);
    }

    @Override
    public Expected expected(int number) {
      return workload.expected(number);
    }

    @Override
    public void close() {
      workload.close();
    }
  }

  /** Takes what the next case should give for what this one should. */
  private static final class NextReference extends Wrapped {
    NextReference(Workload workload) {
      super(workload);
    }

    @Override
    public Expected expected(int number) {
      return workload.expected((number + 1) % workload.cases());
    }
  }

  private static CommandRun planted(
      UnaryOperator<Workload> bug, Duration patience, String options) {
    String line = "stress --backend host --json --threads 2 " + options;
    return CommandRun.with(new StressCommand(bug, patience), new StopSignal(), line.split(" "));
  }

  /** Every result is compared with what another case should give. */
  @Test
  void wrongReferenceIsFound() {
    CommandRun run = planted(NextReference::new, PATIENCE, "--iterations 5");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("operations", 10.0)
        .containsEntry("mismatches", 10.0)
        .containsEntry("errors", 0.0);
    assertThat(run.err())
        .containsPattern(
            "mismatch in worker [01], iteration [0-4] \\(thread stress-\\d\\), stream \\d, \\w+:"
                + " result\\[\\d+] is \\S+, but should be \\S+ \\+/- \\S+");
  }

  /** The same for matrices, whose tolerance is a bound and not a habit. */
  @Test
  void wrongProductIsFound() {
    CommandRun run =
        planted(NextReference::new, PATIENCE, "--iterations 5 --workload matmul --size 64");
    assertThat(run.json()).containsEntry("ok", false).containsEntry("mismatches", 10.0);
  }

  @Test
  void leakIsFound() {
    List<Tensor> forgotten = new ArrayList<>(); // not dropped: the collector would bring it back
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  private final AtomicInteger runs = new AtomicInteger();

                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    Tensor result = workload.run(stream, inputs);
                    if (runs.getAndIncrement() == 3) {
                      forgotten.add(workload.run(stream, inputs));
                    }
                    return result;
                  }
                },
            PATIENCE,
            "--iterations 5");
    assertThat(forgotten).hasSize(1);
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("mismatches", 0.0)
        .containsEntry("errors", 1.0)
        .containsEntry("memory.allocated", 2048.0); // 32 x 10 floats, in a block of the next size
    assertThat(run.err()).contains("memory leaks: 2048 bytes");
  }

  /** Gives the result to another stream, on which nothing waits for it. */
  @Test
  void raceIsFound() {
    UnaryOperator<Workload> bug =
        workload ->
            new Wrapped(workload) {
              private final AtomicInteger runs = new AtomicInteger();

              @Override
              public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                Tensor result = workload.run(stream, inputs);
                if (runs.getAndIncrement() == 3) {
                  StreamPool pool = stream.device().streams();
                  try {
                    pool.stream((stream.index() + 1) % pool.size())
                        .fill(result.buffer(), 0, 4, (byte) 0);
                  } catch (StreamRaceException e) {
                    result.close();
                    throw e;
                  }
                }
                return result;
              }
            };
    CommandRun run = planted(bug, PATIENCE, "--iterations 5 --hazards detect");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("operations", 9.0)
        .containsEntry("mismatches", 0.0)
        .containsEntry("hazards.races", 1.0);
    assertThat(run.err())
        .containsPattern(
            "Stream \\d+ must wait for an event recorded on stream \\d+ after `\\w+` at")
        .contains("1 races were found");
  }

  @Test
  void throwableOfAWorkerIsReported() {
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  private final AtomicInteger runs = new AtomicInteger();

                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    if (runs.getAndIncrement() == 3) {
                      throw new AssertionError("planted");
                    }
                    return workload.run(stream, inputs);
                  }
                },
            PATIENCE,
            "--iterations 5");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("operations", 9.0)
        .containsEntry("errors", 1.0)
        .containsEntry("memory.allocated", 0.0);
    assertThat(run.err()).contains("java.lang.AssertionError: planted").doesNotContain("\tat ");
  }

  /** A worker that fails all the time gives up; the jobs that it leaves are missed. */
  @Test
  void workThatIsLostIsMissed() {
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  @Override
                  public List<Tensor> upload(int number) {
                    throw new IllegalStateException("planted");
                  }
                },
            PATIENCE,
            "--iterations 150 --churn");
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json())
        .containsEntry("ok", false)
        .containsEntry("operations", 0.0)
        .containsEntry("errors", 201.0);
    assertThat(run.err())
        .contains("planted", "and 180 more", "work is lost: of 300 jobs only 200 came to an end");
  }

  /** As after a lost wake-up: threads that never come back end in a message, not in a hang. */
  @Test
  void hangIsFound() {
    CountDownLatch release = new CountDownLatch(1);
    CommandRun run =
        planted(
            workload ->
                new Wrapped(workload) {
                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    try {
                      release.await();
                    } catch (InterruptedException e) {
                      throw new IllegalStateException(e);
                    }
                    return workload.run(stream, inputs);
                  }
                },
            Duration.ofMillis(300),
            "--iterations 5");
    release.countDown();
    assertThat(run.status()).isEqualTo(1);
    assertThat(run.json()).containsEntry("ok", false);
    assertThat(run.err()).contains("nothing got on", "stress-");
  }

  @Test
  void stopsAtTheNextJob() {
    StopSignal stop = new StopSignal();
    Command command =
        new StressCommand(
            workload ->
                new Wrapped(workload) {
                  private final AtomicInteger runs = new AtomicInteger();

                  @Override
                  public Tensor run(DeviceStream stream, List<Tensor> inputs) {
                    if (runs.incrementAndGet() == 10) {
                      stop.request();
                    }
                    return workload.run(stream, inputs);
                  }
                },
            PATIENCE);
    CommandRun run =
        CommandRun.with(
            command,
            stop,
            "stress",
            "--backend",
            "host",
            "--json",
            "--threads",
            "2",
            "--iterations",
            "100000");
    assertThat(run.status()).isEqualTo(130);
    assertThat(run.json())
        .containsEntry("ok", true)
        .containsEntry("interrupted", true)
        .containsEntry("errors", 0.0);
    assertThat(run.number("operations")).isBetween(1.0, 20.0);
  }
}
