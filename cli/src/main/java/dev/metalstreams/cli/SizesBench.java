package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** From which size on one thread fills the device. */
final class SizesBench implements Bench {
  static final String NAME = "sizes";

  private static final double GIGA = 1e9;

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "matrices of growing size: what threads gain, and where the device is full";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    int first = options.threads().getFirst();
    String one = first + (first == 1 ? " thread /s" : " threads /s");
    Sheet sheet =
        new Sheet(
            NAME,
            "Products per second by size, with the best number of threads",
            new Column("size", "size", 0),
            new Column("one", one, 0),
            new Column("best", "best /s", 0),
            new Column("best_threads", "threads", 0),
            new Column("gain", "gain", 2),
            new Column("gflops", "GFLOP/s", 1));
    Map<Integer, Products> bySize = new LinkedHashMap<>();
    try {
      Rounds rounds = new Rounds(invocation, NAME);
      for (int size : options.sizes()) {
        Products products = new Products(device, size, invocation.seed(), findings);
        bySize.put(size, products);
        for (int threads : options.threads()) {
          rounds.add(
              key(size, threads),
              new ThreadTrial(threads, 1, () -> products.job(1, Products.Sync.EVENT), findings));
        }
      }
      rounds.run(options.rounds(), options.duration());
      bySize.forEach(
          (size, products) -> {
            Optional<Rate> base = rounds.rate(key(size, first));
            Optional<Rate> best = Optional.empty();
            int bestThreads = 0;
            for (int threads : options.threads()) {
              Optional<Rate> rate = rounds.rate(key(size, threads));
              if (rate.isPresent()
                  && (best.isEmpty() || rate.get().median() > best.get().median())) {
                best = rate;
                bestThreads = threads;
              }
            }
            sheet.row(
                size,
                base,
                best,
                best.isPresent() ? Optional.of(bestThreads) : Optional.empty(),
                Figures.ratio(best, base),
                best.map(rate -> rate.median() * products.operations() / GIGA));
          });
    } finally {
      bySize.values().forEach(Products::close);
    }
    sheet.charts.add(
        new Chart("GFLOP/s at the best number of threads", false, "size", List.of("gflops")));
    sheet.charts.add(
        new Chart(
            "gain of the best number of threads over the fewest", true, "size", List.of("gain")));
    sheet.conditions.add(
        "numbers of threads tried: "
            + String.join(", ", options.threads().stream().map(String::valueOf).toList()));
    sheet.conditions.add(
        "each thread multiplies and waits for its own event in turn, on its own stream");
    sheet.conditions.add("threads live for a whole measurement and have run once before it");
    return sheet;
  }

  private static String key(int size, int threads) {
    return "size " + size + ", " + threads + " threads";
  }
}
