package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What tune finds is one of what it tried, and what it prints is what it found. */
@Timeout(120)
class TuneCommandTest {
  private static final String TRY =
      "tune --backend host --shape 8x4 --threads 1,2 --max-batch 8 --duration 300ms";

  @Test
  void finds() {
    CommandRun run = CommandRun.line(TRY + " --json");
    assertThat(run.status()).as(run.err()).isZero();
    assertThat(run.json()).containsEntry("ok", true).containsEntry("shape.0", 8.0);
    assertThat(run.number("batch")).isIn(1.0, 2.0, 4.0, 8.0);
    assertThat(run.number("sync_every")).isBetween(1.0, 64.0);
    assertThat(run.number("threads")).isIn(1.0, 2.0);
    assertThat(run.number("samples_per_second")).isPositive();
    assertThat(run.number("gain")).isPositive();
    // 4 batch sizes, 7 intervals, 2 numbers of threads
    assertThat(run.json()).containsKey("tried.12.batch").doesNotContainKey("tried.13.batch");
  }

  /** A batch of 4096 of these takes longer than that on any CPU. */
  @Test
  void aLatencyIsKept() {
    CommandRun run =
        CommandRun.line(
            "tune --backend host --shape 1024x1024 --threads 1 --max-batch 4096 --duration 1s"
                + " --latency 10ms --json");
    assertThat(run.status()).as(run.err()).isZero();
    assertThat(run.number("batch")).isLessThan(4096);
  }

  @Test
  void printsWhatToUse() {
    CommandRun run = CommandRun.line(TRY);
    assertThat(run.status()).isZero();
    assertThat(run.out()).contains("newFixedThreadPool(", ".buckets(1, ..., ", "taken", "8x4");
  }

  @Test
  void stoppedAtOnceItHasFoundNothing() {
    StopSignal stop = new StopSignal();
    stop.request();
    CommandRun run =
        CommandRun.with(new TuneCommand(), stop, "tune", "--backend", "host", "--json");
    assertThat(run.status()).isEqualTo(130);
    assertThat(run.json()).containsEntry("threads", null).containsEntry("interrupted", true);
  }
}
