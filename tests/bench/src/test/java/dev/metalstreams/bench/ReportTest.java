package dev.metalstreams.bench;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;

/** The whole report, in moments: what it says is worth nothing, but it says it. */
class ReportTest {

  @Test
  void everyQuestionIsAnswered() throws Exception {
    assertThat(Report.of(Report.Effort.SMOKE).rows())
        .hasSize(9)
        .allSatisfy(row -> assertThat(row.bytes()).isFinite());
  }

  @Test
  void everyAllocatorIsMeasured() throws Exception {
    assertThat(AllocationReport.of(Report.Effort.SMOKE, List.of(1, 2)).rows())
        .hasSize(2)
        .allSatisfy(
            row ->
                assertThat(row.pairsPerMicro())
                    .containsOnlyKeys(AllocationReport.Allocator.values())
                    .allSatisfy((allocator, score) -> assertThat(score).isPositive()));
  }
}
