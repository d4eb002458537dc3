package dev.metalstreams.batch;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** When a batch is due, and what is in it: by hand, at times of the test's choice. */
class LineTest {
  private static final long NEVER = Long.MAX_VALUE;

  private final BatchQueue<String, String> queue =
      BatchQueue.builder(BatchFunction.<String, String>of(inputs -> inputs)).build();
  private final Line<String, String> line = new Line<>(3);
  private long number;

  @AfterEach
  void close() {
    queue.close();
  }

  private Request<String, String> request(
      String input, long weight, int priority, long submitted, long deadline) {
    return new Request<>(queue, ++number, input, weight, priority, submitted, deadline);
  }

  private void add(String input, long weight, int priority, long submitted, long deadline) {
    line.add(request(input, weight, priority, submitted, deadline));
  }

  private void add(String input, long submitted) {
    add(input, 1, 0, submitted, NEVER);
  }

  private static List<String> inputs(List<Request<String, String>> requests) {
    return requests.stream().map(request -> request.input).toList();
  }

  private Line.Due due(long now, long maxDelay) {
    return line.due(now, 4, 100, maxDelay, 0, false);
  }

  @Test
  void aFullLineIsDueAtOnce() {
    for (int i = 0; i < 3; i++) {
      add("a", 0);
      assertThat(due(0, 10).in()).isEqualTo(10);
    }
    add("a", 0);
    assertThat(due(0, 10)).isEqualTo(new Line.Due(0, FlushReason.FULL));
  }

  @Test
  void aHeavyLineIsDueAtOnce() {
    add("a", 60, 0, 0, NEVER);
    assertThat(due(0, 10).reason()).isEqualTo(FlushReason.DELAY);
    add("b", 40, 0, 0, NEVER);
    assertThat(due(0, 10)).isEqualTo(new Line.Due(0, FlushReason.FULL));
  }

  @Test
  void theDelayCountsFromTheOldestRequest() {
    add("old", 5);
    add("new", 9);
    assertThat(due(9, 10)).isEqualTo(new Line.Due(6, FlushReason.DELAY));
    assertThat(due(14, 10)).isEqualTo(new Line.Due(1, FlushReason.DELAY));
    assertThat(due(15, 10)).isEqualTo(new Line.Due(0, FlushReason.DELAY));
    assertThat(due(99, 10)).isEqualTo(new Line.Due(0, FlushReason.DELAY));
  }

  @Test
  void theOldestMayBeOfAnyPriority() {
    Request<String, String> young = request("young", 1, 2, 8, NEVER);
    line.add(young);
    add("old", 1, 1, 3, NEVER);
    assertThat(due(9, 10).in()).isEqualTo(4);
    add("oldest", 1, 2, 1, NEVER);
    line.remove(young);
    assertThat(due(9, 10).in()).isEqualTo(2);
  }

  @Test
  void theClockMayBeNegative() {
    add("new", 1, 0, -2, NEVER);
    add("old", 1, 1, -6, NEVER);
    assertThat(due(-1, 10)).isEqualTo(new Line.Due(5, FlushReason.DELAY));
  }

  @Test
  void withoutADelayEverythingIsDueAtOnce() {
    add("a", 0);
    assertThat(due(0, 0)).isEqualTo(new Line.Due(0, FlushReason.IDLE));
  }

  @Test
  void aDeadlineBringsTheBatchForward() {
    add("a", 1, 0, 0, 20);
    assertThat(line.due(0, 4, 100, 50, 0, false)).isEqualTo(new Line.Due(20, FlushReason.DEADLINE));
    assertThat(line.due(0, 4, 100, 50, 15, false))
        .as("served before it by as long as serving takes")
        .isEqualTo(new Line.Due(5, FlushReason.DEADLINE));
    assertThat(line.due(10, 4, 100, 50, 15, false))
        .isEqualTo(new Line.Due(0, FlushReason.DEADLINE));
    assertThat(line.due(0, 4, 100, 10, 0, false))
        .as("not later than the delay")
        .isEqualTo(new Line.Due(10, FlushReason.DELAY));
  }

  @Test
  void aClosingLineIsDueAtOnce() {
    add("a", 0);
    assertThat(line.due(0, 4, 100, 50, 0, true)).isEqualTo(new Line.Due(0, FlushReason.DRAIN));
  }

  @Test
  void requestsGoInOrderWithinAPriorityAndHigherOnesFirst() {
    add("low 1", 1, 0, 0, NEVER);
    add("high 1", 1, 2, 0, NEVER);
    add("low 2", 1, 0, 0, NEVER);
    add("high 2", 1, 2, 0, NEVER);
    add("middle", 1, 1, 0, NEVER);
    assertThat(inputs(line.take(4, 100))).containsExactly("high 1", "high 2", "middle", "low 1");
    assertThat(inputs(line.take(4, 100))).containsExactly("low 2");
    assertThat(line.size()).isZero();
  }

  @Test
  void aBatchIsNoHeavierThanAllowedButServesAtLeastOne() {
    add("a", 60, 0, 0, NEVER);
    add("b", 50, 0, 0, NEVER);
    add("c", 40, 0, 0, NEVER);
    assertThat(inputs(line.take(4, 100))).containsExactly("a");
    assertThat(inputs(line.take(4, 100))).containsExactly("b", "c");
    add("heavy", 500, 0, 0, NEVER);
    assertThat(inputs(line.take(4, 100))).containsExactly("heavy");
  }

  @Test
  void expiredRequestsLeaveInTheOrderOfTheirDeadlines() {
    add("c", 1, 0, 0, 30);
    add("a", 1, 1, 0, 10);
    add("never", 0);
    add("b", 1, 2, 0, 20);
    assertThat(line.expired(9)).isEmpty();
    assertThat(inputs(line.expired(20))).containsExactly("a", "b");
    assertThat(line.size()).isEqualTo(2);
    assertThat(inputs(line.expired(NEVER - 1))).containsExactly("c");
    assertThat(inputs(line.takeAll())).containsExactly("never");
  }

  @Test
  void aRequestIsTakenOutOnce() {
    Request<String, String> request = request("a", 1, 0, 0, 10);
    line.add(request);
    assertThat(line.remove(request)).isTrue();
    assertThat(line.remove(request)).isFalse();
    assertThat(line.size()).isZero();
    assertThat(line.expired(100)).isEmpty();
    add("b", 99, 0, 0, NEVER);
    assertThat(due(0, 10).reason()).as("its weight has gone with it").isEqualTo(FlushReason.DELAY);
  }
}
