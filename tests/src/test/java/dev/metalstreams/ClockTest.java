package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

/** Vector clocks: what comes after both comes after each, and nothing is copied in vain. */
class ClockTest {
  private final Clock a = Clock.ZERO.raise(0, 5).raise(2, 1);
  private final Clock b = Clock.ZERO.raise(0, 4).raise(1, 7).raise(3, 2);

  private static void assertPositions(Clock clock, long... positions) {
    for (int stream = 0; stream < positions.length; stream++) {
      assertThat(clock.at(stream))
          .as("stream %d of %s", stream, clock)
          .isEqualTo(positions[stream]);
    }
    assertThat(clock.at(positions.length)).isZero();
  }

  @Test
  void aJoinComesAfterBoth() {
    assertPositions(a.join(b), 5, 7, 1, 2);
    assertPositions(b.join(a), 5, 7, 1, 2);
    assertPositions(Clock.ZERO.raise(0, 1).join(Clock.ZERO.raise(0, 2)), 2);
    assertPositions(a, 5, 0, 1);
    assertPositions(b, 4, 7, 0, 2);
  }

  @Test
  void whoIsAfterAllOfItStaysAsHeIs() {
    Clock both = a.join(b);
    assertThat(both.join(a)).isSameAs(both);
    assertThat(both.join(both)).isSameAs(both);
    assertThat(a.join(Clock.ZERO)).isSameAs(a);
    assertThat(a.raise(0, 5)).isSameAs(a);
    assertThat(a.raise(0, 4)).isSameAs(a);
    assertThat(a.raise(7, 0)).isSameAs(a);
  }

  @Test
  void showsItsPositions() {
    assertThat(a).hasToString("[5, 0, 1]");
  }
}
