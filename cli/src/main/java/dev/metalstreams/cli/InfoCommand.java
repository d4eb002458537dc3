package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.GraphCacheStats;
import dev.metalstreams.Setting;
import dev.metalstreams.driver.DeviceInfo;
import dev.metalstreams.driver.DriverCounters;
import java.io.PrintStream;
import java.util.List;
import java.util.Locale;

/** {@code info}: what runs here, and how it is set. */
final class InfoCommand implements Command {
  private static final Parameter<Boolean> MEMORY =
      Parameter.flag("memory", "show the memory as well: statistics, blocks, history");

  @Override
  public String name() {
    return "info";
  }

  @Override
  public String summary() {
    return "shows the backend, the device and every setting with its source";
  }

  @Override
  public String description() {
    return """
    Opens the device and shows what it is, what computes on it, which native library serves it, and every setting
    with its value and where that came from. With --memory also what memory the device holds, what every block of it is
    doing, and, where the setting memory.history says so, what happened to it.\
    """;
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(MEMORY);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    try (Device device = Devices.open(invocation.values(), builder -> {})) {
      boolean memory = invocation.values().has(MEMORY);
      PrintStream out = invocation.output().out();
      if (invocation.json()) {
        Json json = json(device);
        if (memory) {
          json.put("memory", new Json.Raw(device.memory().toJson()));
        }
        json.print(out);
      } else {
        print(device, out);
        if (memory) {
          MemoryReport.print(device.memory(), out);
        }
      }
    }
    return ExitStatus.OK;
  }

  private static Json json(Device device) {
    DeviceInfo info = device.info();
    return new Json()
        .put("version", Version.get())
        .put("backend", info.backend())
        .put(
            "device",
            new Json()
                .put("name", info.name())
                .put("family", info.family())
                .put("unified_memory", info.unifiedMemory())
                .put("recommended_bytes", info.recommendedBytes())
                .put("max_buffer_bytes", info.maxBufferBytes())
                .put("workers", info.workers())
                .put("max_in_flight", info.maxInFlight()))
        .put("math", info.math())
        .put("pool", new Json().put("size", device.streams().size()))
        .put("graphs", graphs(device.graphCache()))
        .put("counters", json(device.counters()))
        .put("library", info.library())
        .put("abi", info.abiVersion())
        .put("build_id", info.buildId())
        .put("settings", device.settings().all().stream().map(InfoCommand::json).toList())
        .put(
            "jvm",
            new Json()
                .put("version", Runtime.version().toString())
                .put("name", System.getProperty("java.vm.name"))
                .put("vendor", System.getProperty("java.vendor")))
        .put(
            "os",
            new Json()
                .put("name", System.getProperty("os.name"))
                .put("version", System.getProperty("os.version"))
                .put("arch", System.getProperty("os.arch")));
  }

  private static Json graphs(GraphCacheStats stats) {
    return new Json()
        .put("capacity", stats.capacity())
        .put("size", stats.size())
        .put("in_use", stats.inUse())
        .put("hits", stats.hits())
        .put("misses", stats.misses())
        .put("evictions", stats.evictions());
  }

  private static Json json(DriverCounters counters) {
    return new Json()
        .put("matmuls_by_graph", counters.matmulsByGraph())
        .put("matmuls_by_ndarray", counters.matmulsByNdarray())
        .put("layer_norms", counters.layerNorms())
        .put("early_commits", counters.earlyCommits())
        .put("agx_guard", counters.agxGuard().name().toLowerCase(Locale.ROOT))
        .put("agx_acquisitions", counters.agxAcquisitions())
        .put("agx_contentions", counters.agxContentions())
        .put("agx_live_encoders", counters.agxLiveEncoders())
        .put("agx_forced_ends", counters.agxForcedEnds());
  }

  private static Json json(Setting setting) {
    return new Json()
        .put("name", setting.name())
        .put("value", setting.value())
        .put("source", setting.source())
        .put("property", setting.property())
        .put("environment", setting.environment())
        .put("description", setting.description());
  }

  private static void print(Device device, PrintStream out) {
    DeviceInfo info = device.info();
    GraphCacheStats graphs = device.graphCache();
    new Table()
        .row("metalstreams", Version.get())
        .row("backend", info.backend())
        .row("device", info.name() + " (" + info.family() + ")")
        .row("math", info.math())
        .row("memory", memory(info))
        .row("workers", info.workers() == 0 ? "on the device" : info.workers())
        .row("in flight", "at most " + info.maxInFlight() + " command buffers per stream")
        .row("pool", device.streams().size() + " streams")
        .row("graphs", graphs.size() + " compiled, at most " + graphs.capacity() + " kept")
        .row("products", products(info, device.counters()))
        .row("agx guard", guard(device.counters()))
        .row("library", info.library())
        .row("abi", info.abiVersion())
        .row("build id", info.buildId())
        .row("jvm", System.getProperty("java.vm.name") + " " + Runtime.version())
        .row(
            "os",
            System.getProperty("os.name")
                + " "
                + System.getProperty("os.version")
                + " "
                + System.getProperty("os.arch"))
        .print(out);
    out.println();
    Table settings = new Table().row("setting", "value", "source", "property", "environment");
    for (Setting setting : device.settings().all()) {
      settings.row(
          setting.name(),
          setting.value(),
          setting.source(),
          setting.property(),
          setting.environment());
    }
    settings.print(out);
  }

  private static String products(DeviceInfo info, DriverCounters counters) {
    return info.backend().equals("metal")
        ? counters.matmulsByGraph()
            + " by MPSGraph, "
            + counters.matmulsByNdarray()
            + " by MPSNDArrayMatrixMultiplication"
        : counters.matmulsByGraph() + " by the CPU";
  }

  private static String guard(DriverCounters counters) {
    return switch (counters.agxGuard()) {
      case OFF -> "off";
      case NO_TARGET -> "asked for, but this driver has nothing to guard";
      case ON ->
          "on: "
              + counters.agxAcquisitions()
              + " acquisitions, "
              + counters.agxContentions()
              + " contentions, "
              + counters.agxLiveEncoders()
              + " live encoders, "
              + counters.agxForcedEnds()
              + " forced ends";
    };
  }

  private static String memory(DeviceInfo info) {
    return Figures.bytes(info.recommendedBytes())
        + " recommended, "
        + Figures.bytes(info.maxBufferBytes())
        + " in one buffer"
        + (info.unifiedMemory() ? ", unified" : "");
  }
}
