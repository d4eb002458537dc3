package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.util.List;
import java.util.Optional;

/** How throughput grows with threads, and what it costs to wait for the whole device. */
final class ThreadsBench implements Bench {
  static final String NAME = "threads";

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "1 to 16 threads, each waiting for its own event or for the whole device";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    Sheet sheet =
        new Sheet(
            NAME,
            "Products of " + options.size() + " x " + options.size() + " per second, by threads",
            new Column("threads", "threads", 0),
            new Column("event", "event sync /s", 0),
            new Column("event_gain", "x 1 thread", 2),
            new Column("device", "device sync /s", 0),
            new Column("device_gain", "x 1 thread", 2),
            new Column("event_over_device", "event/device", 2));
    try (Products products = new Products(device, options.size(), invocation.seed(), findings)) {
      Rounds rounds = new Rounds(invocation, NAME);
      for (int threads : options.threads()) {
        for (Products.Sync sync : Products.Sync.values()) {
          rounds.add(
              key(threads, sync),
              new ThreadTrial(threads, 1, () -> products.job(1, sync), findings));
        }
      }
      rounds.run(options.rounds(), options.duration());
      int first = options.threads().getFirst();
      Optional<Rate> eventBase = rounds.rate(key(first, Products.Sync.EVENT));
      Optional<Rate> deviceBase = rounds.rate(key(first, Products.Sync.DEVICE));
      for (int threads : options.threads()) {
        Optional<Rate> event = rounds.rate(key(threads, Products.Sync.EVENT));
        Optional<Rate> whole = rounds.rate(key(threads, Products.Sync.DEVICE));
        sheet.row(
            threads,
            event,
            Figures.ratio(event, eventBase),
            whole,
            Figures.ratio(whole, deviceBase),
            Figures.ratio(event, whole));
      }
      if (first != 1) {
        sheet.remarks.add("Gains are over " + first + " threads, the fewest that were measured.");
      }
    }
    sheet.charts.add(
        new Chart("products per second", false, "threads", List.of("event", "device")));
    sheet.conditions.add(
        "each thread multiplies and waits in turn, on its own stream (32 streams unless set otherwise)");
    sheet.conditions.add("threads live for a whole measurement and have run once before it");
    sheet.conditions.add("every result is new memory; the last one of each thread is checked");
    return sheet;
  }

  private static String key(int threads, Products.Sync sync) {
    return threads + " threads, " + sync.label() + " sync";
  }
}
