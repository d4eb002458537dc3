package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What is open is found, in whatever order it is closed; what is closed keeps nothing. */
class TenanciesTest extends CoreTest {
  private static final int MANY = 1000;

  private final Tenancies tenancies = new Tenancies();
  private DeviceBuffer buffer;

  @BeforeEach
  void allocate() {
    buffer = open(Script.automatic()).allocate(8);
  }

  @AfterEach
  void close() {
    buffer.close();
  }

  private Tenancy add() {
    Leaks leaks = new Leaks(LeakLevel.DISABLED);
    Tenancy tenancy = new Tenancy(buffer, leaks, buffer.tenancy().block, null);
    tenancies.add(tenancy);
    return tenancy;
  }

  private List<Tenancy> open() {
    List<Tenancy> open = new ArrayList<>();
    tenancies.forEach(open::add);
    return open;
  }

  @Test
  void whatIsOpenIsFound() {
    List<Tenancy> added = new ArrayList<>();
    for (int i = 0; i < MANY; i++) {
      added.add(add());
    }
    assertThat(open()).containsExactlyInAnyOrderElementsOf(added);
    List<Tenancy> left = new ArrayList<>();
    for (int i = 0; i < MANY; i++) { // of some chunks all, of some none, of some a part
      if (i % 3 == 0 || (i > 200 && i < 600)) {
        tenancies.remove(added.get(i));
      } else {
        left.add(added.get(i));
      }
    }
    left.add(add());
    assertThat(open()).containsExactlyInAnyOrderElementsOf(left);
    left.forEach(tenancies::remove);
    assertThat(open()).isEmpty();
    assertThat(open()).isEmpty();
  }

  @Test
  void onesThatAreClosedAtOnceLeaveNothingBehind() {
    Tenancies.Chunk first = null;
    for (int i = 0; i < MANY; i++) {
      Tenancy tenancy = add();
      first = first == null ? tenancy.chunk : first;
      tenancies.remove(tenancy);
    }
    assertThat(Objects.requireNonNull(first).alone()).isTrue();
  }

  @Test
  void aChunkThatIsOutKeepsNoOther() {
    Tenancy before = add();
    List<Tenancy> added = new ArrayList<>();
    for (int i = 0; i < MANY; i++) {
      added.add(add());
    }
    Tenancies.Chunk chunk = Objects.requireNonNull(added.get(MANY / 2).chunk);
    assertThat(chunk.alone()).isFalse();
    added.forEach(tenancies::remove);
    assertThat(chunk.alone()).isTrue();
    assertThat(open()).containsExactly(before);
    assertThat(added).allSatisfy(closed -> assertThat(closed.chunk).isNull());
  }

  @Test
  void aClosedOneIsRefused() {
    Tenancy tenancy = add();
    tenancies.remove(tenancy);
    assertThatIllegalStateException().isThrownBy(() -> tenancies.remove(tenancy));
  }
}
