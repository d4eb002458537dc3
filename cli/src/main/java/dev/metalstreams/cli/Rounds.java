package dev.metalstreams.cli;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;

/**
 * Measurements that are compared with one another: all of them in turn, round after round, each
 * round in an order of its own. What changes on the machine in the meantime then changes all of
 * them, and not the comparison. The first round is for warming up and does not count.
 */
final class Rounds {

  /** Something that can be measured for a while. */
  interface Trial {
    /**
     * Measures it.
     *
     * @param nanos for how long, about
     * @return how often it was done in a second
     */
    double measure(long nanos);
  }

  private final Invocation invocation;
  private final String title;
  private final Map<String, Trial> trials = new LinkedHashMap<>();
  private final Map<String, List<Double>> measured = new LinkedHashMap<>();

  /**
   * @param title what to show beside the progress bar
   */
  Rounds(Invocation invocation, String title) {
    this.invocation = invocation;
    this.title = title;
  }

  void add(String name, Trial trial) {
    trials.put(name, trial);
    measured.put(name, new ArrayList<>());
  }

  /**
   * Runs them.
   *
   * @param rounds how many count
   * @param duration for all of it
   */
  void run(int rounds, Duration duration) {
    long slice = Math.max(1, duration.toNanos() / ((rounds + 1L) * trials.size()));
    Random random = new Random(invocation.seed());
    Progress progress = new Progress(invocation.output());
    int done = 0;
    for (int round = 0; round <= rounds; round++) {
      List<String> order = new ArrayList<>(trials.keySet());
      Collections.shuffle(order, random);
      for (String name : order) {
        if (invocation.stop().requested()) {
          progress.clear();
          return;
        }
        progress.show((double) done / ((rounds + 1) * trials.size()), title + ": " + name);
        Trial trial = trials.get(name);
        double perSecond = trial == null ? 0 : trial.measure(slice);
        List<Double> all = measured.get(name);
        if (round > 0 && all != null && !invocation.stop().requested()) {
          all.add(perSecond);
        }
        done++;
      }
    }
    progress.clear();
  }

  /** What was measured; empty if the run was stopped before. */
  Optional<Rate> rate(String name) {
    List<Double> all = measured.getOrDefault(name, List.of());
    return all.isEmpty() ? Optional.empty() : Optional.of(Rate.of(all));
  }
}
