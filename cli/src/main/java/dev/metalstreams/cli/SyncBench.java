package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.util.List;
import java.util.Optional;

/** What it brings to wait less often. */
final class SyncBench implements Bench {
  static final String NAME = "sync";

  private static final int MOST = 256;

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "one thread that waits after every 1, 2, 4 ... 256 operations";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    Sheet sheet =
        new Sheet(
            NAME,
            "Products of "
                + options.size()
                + " x "
                + options.size()
                + " per second, by operations between two waits",
            new Column("every", "wait every", 0),
            new Column("rate", "products/s", 0),
            new Column("gain", "x every 1", 2),
            new Column("us_each", "us each", 2));
    try (Products products = new Products(device, options.size(), invocation.seed(), findings)) {
      Rounds rounds = new Rounds(invocation, NAME);
      for (int every = 1; every <= MOST; every *= 2) {
        int operations = every;
        rounds.add(
            key(every),
            new ThreadTrial(
                1, every, () -> products.job(operations, Products.Sync.EVENT), findings));
      }
      rounds.run(options.rounds(), options.duration());
      Optional<Rate> base = rounds.rate(key(1));
      for (int every = 1; every <= MOST; every *= 2) {
        Optional<Rate> rate = rounds.rate(key(every));
        sheet.row(every, rate, Figures.ratio(rate, base), rate.map(r -> 1e6 / r.median()));
      }
    }
    sheet.charts.add(new Chart("products per second", false, "every", List.of("rate")));
    sheet.conditions.add("one thread, on its own stream, that waits for its own event");
    sheet.conditions.add("every result is new memory; the last one is checked");
    return sheet;
  }

  private static String key(int every) {
    return "wait every " + every;
  }
}
