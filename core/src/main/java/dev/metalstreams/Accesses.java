package dev.metalstreams;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Who has touched the memory of one buffer, as far as that may still matter to the race detector.
 * There is none while the detector is off.
 *
 * <p>Invariant: a later access races with any access ever made to this memory exactly if it races
 * with one that is still in the list. An access leaves the list when a later one takes its place,
 * which comes after it and touches all that it touched as hard: who is not ordered after the first
 * is not ordered after the second. It also leaves when the host knows that it is over: whoever
 * comes later comes after it. A view of the host leaves when it is closed.
 *
 * <p>The monitor is held for a look through the list, within a stream's lock, and nothing else is
 * locked within it. {@link Hazards} says how check and encode are one step to other threads.
 */
final class Accesses {
  private final Hazards hazards;
  private final List<Access> list = new ArrayList<>(4);

  Accesses(Hazards hazards) {
    this.hazards = hazards;
  }

  /** Claims an access unless it races; returns the last one that it races with, or null. */
  synchronized @Nullable Access claim(Access mine, boolean anyway) {
    for (int i = list.size() - 1; i >= 0 && !anyway; i--) {
      Access earlier = list.get(i);
      if (hazards.conflicts(earlier, mine) && !hazards.ordered(earlier, mine)) {
        return earlier;
      }
    }
    list.add(mine);
    return null;
  }

  /** A claimed access is sure to happen: what it makes needless is forgotten. */
  synchronized void settle(Access mine) {
    mine.settled = true;
    int kept = 0;
    for (int i = 0; i < list.size(); i++) {
      Access each = list.get(i);
      if (each == mine || !(hazards.over(each) || hazards.supersedes(mine, each))) {
        list.set(kept++, each);
      }
    }
    list.subList(kept, list.size()).clear();
  }

  synchronized void remove(Access mine) {
    list.remove(mine);
  }

  /** After all that is settled. */
  synchronized Clock clock() {
    Clock clock = Clock.ZERO;
    for (Access each : list) {
      if (each.settled) {
        clock = hazards.after(clock, each.by.stamp);
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
    return list.size();
  }
}
