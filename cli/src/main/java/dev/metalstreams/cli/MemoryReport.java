package dev.metalstreams.cli;

import dev.metalstreams.BlockInfo;
import dev.metalstreams.DeviceMemory;
import dev.metalstreams.MemoryEvent;
import dev.metalstreams.MemoryStats;
import dev.metalstreams.MemoryStats.Counter;
import dev.metalstreams.MemoryStats.Metric;
import dev.metalstreams.MemoryStats.Pool;
import java.io.PrintStream;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** The memory of a device for people's eyes: statistics, blocks by stream and state, history. */
final class MemoryReport {

  private MemoryReport() {}

  static void print(DeviceMemory memory, PrintStream out) {
    MemoryStats stats = memory.stats();
    out.println();
    figures(stats).print(out);
    out.println();
    new Table()
        .row("retries", stats.retries())
        .row("out of memory", stats.outOfMemories())
        .row("device allocations", stats.deviceAllocations())
        .row("device frees", stats.deviceFrees())
        .row("steals", stats.steals())
        .row("leaks", stats.leaks())
        .row("pending by stream", new TreeMap<>(stats.pendingByStream()))
        .print(out);
    out.println();
    blocks(memory.snapshot(), out);
    history(memory.history(), out);
  }

  private static Table figures(MemoryStats stats) {
    Table table = new Table().row("memory", "pool", "current", "peak", "total in", "total out");
    for (Metric metric : Metric.values()) {
      for (Pool pool : Pool.values()) {
        Counter bytes = stats.bytes(metric, pool);
        table.row(
            name(metric),
            name(pool),
            Figures.bytes(bytes.current()),
            Figures.bytes(bytes.peak()),
            Figures.bytes(bytes.totalIn()),
            Figures.bytes(bytes.totalOut()));
        if (metric != Metric.REQUESTED) { // there are as many as are allocated
          Counter blocks = stats.count(metric, pool);
          table.row(
              "",
              "",
              blocks.current() + " blocks",
              blocks.peak(),
              blocks.totalIn(),
              blocks.totalOut());
        }
      }
    }
    return table;
  }

  /** How many blocks, and bytes, each stream has in each state. */
  private static void blocks(List<BlockInfo> blocks, PrintStream out) {
    Map<Integer, Map<BlockInfo.State, long[]>> streams = new TreeMap<>();
    for (BlockInfo block : blocks) {
      long[] sum =
          streams
              .computeIfAbsent(block.stream(), stream -> new TreeMap<>())
              .computeIfAbsent(block.state(), state -> new long[2]);
      sum[0]++;
      sum[1] += block.size();
    }
    Table table = new Table().row("stream", "state", "blocks", "bytes");
    streams.forEach(
        (stream, states) ->
            states.forEach(
                (state, sum) -> table.row(stream, name(state), sum[0], Figures.bytes(sum[1]))));
    table.print(out);
    if (blocks.isEmpty()) {
      out.println("(no blocks)");
    }
  }

  private static void history(List<MemoryEvent> events, PrintStream out) {
    if (events.isEmpty()) {
      return;
    }
    out.println();
    long first = events.get(0).nanoTime();
    Table table = new Table().row("after us", "event", "block", "bytes", "stream");
    for (MemoryEvent event : events) {
      table.row(
          (event.nanoTime() - first) / 1000,
          name(event.kind()),
          event.block(),
          event.bytes(),
          event.stream());
    }
    table.print(out);
  }

  private static String name(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }
}
