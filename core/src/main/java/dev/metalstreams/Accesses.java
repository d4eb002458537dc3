package dev.metalstreams;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * Who has touched the memory of one buffer, as far as that may still matter to the race detector.
 * There is none while the detector is off.
 *
 * <p>Invariant: a later access races with any access ever made to this memory exactly if it races
 * with one that is still in the list. An access leaves the list when a later one takes its place,
 * which comes after it and touches all that it touched as hard: who is not ordered after the first
 * is not ordered after the second; and if the later is not made after all, the earlier comes back.
 * It also leaves when the host knows that it is over: whoever comes later comes after it. A view of
 * the host leaves when it is closed.
 *
 * <p>The monitor is held for a look through the list, within a stream's lock, and nothing else is
 * locked within it. {@link Hazards} says how check and encode are one step to other threads.
 */
final class Accesses {
  private final Hazards hazards;
  private Access[] list = new Access[4];
  private int size;

  Accesses(Hazards hazards) {
    this.hazards = hazards;
  }

  /**
   * Claims an access unless it races; returns the last one that it races with, or null. It takes
   * the place of those that it makes needless.
   */
  synchronized @Nullable Access claim(Access mine, boolean anyway) {
    for (int i = size - 1; i >= 0 && !anyway; i--) {
      Access earlier = list[i];
      if (hazards.conflicts(earlier, mine) && !hazards.ordered(earlier, mine)) {
        return earlier;
      }
    }
    int kept = 0;
    for (int i = 0; i < size; i++) {
      Access earlier = list[i];
      if (hazards.supersedes(mine, earlier)) {
        mine.replace(earlier);
      } else if (!hazards.over(earlier)) {
        list[kept++] = earlier;
      }
    }
    Arrays.fill(list, kept, size, null);
    size = kept;
    add(mine);
    return null;
  }

  private void add(Access access) {
    if (size == list.length) {
      list = Arrays.copyOf(list, 2 * size);
    }
    list[size++] = access;
  }

  /** A claimed access is not made after all, or a view is closed. */
  synchronized void remove(Access mine) {
    int kept = 0;
    for (int i = 0; i < size; i++) {
      if (list[i] != mine) {
        list[kept++] = list[i];
      }
    }
    Arrays.fill(list, kept, size, null);
    size = kept;
    for (Access each = mine.replaced; each != null; each = each.next()) {
      add(each);
    }
    mine.replaced = null; // it may be claimed again
  }

  /** After all that is settled. */
  synchronized Clock clock() {
    Clock clock = Clock.ZERO;
    for (int i = 0; i < size; i++) {
      Access each = list[i];
      if (each.by.isSettled()) {
        clock = hazards.after(clock, each.by.stamp);
      } else {
        for (Access old = each.replaced; old != null; old = old.next()) {
          clock = hazards.after(clock, old.by.stamp);
        }
      }
    }
    return clock;
  }

  // ---- for views of the host

  boolean orders() {
    return hazards.orders();
  }

  Operation open(String name, DeviceBuffer buffer, boolean writes, boolean waits) {
    return hazards.view(name, buffer, writes, waits);
  }

  /** A thread has waited for all of this. */
  void observed(Clock moment) {
    hazards.observed(moment);
  }

  /** How many accesses are remembered. */
  synchronized int size() {
    return size;
  }
}
