package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.driver.DeviceInfo;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;

/** {@code bench}: tables of what this machine can do. */
final class BenchCommand implements Command {
  static final String ALL = "all";

  private static final List<Bench> BENCHES =
      List.of(
          new ThreadsBench(),
          new SyncBench(),
          new SizesBench(),
          new BatchBench(),
          new AllocBench(),
          new OverheadBench());

  private static final Parameter<String> TABLE =
      Parameter.choice(
          "TABLE",
          Optional.empty(),
          "what to measure",
          Stream.concat(BENCHES.stream().map(Bench::name), Stream.of(ALL)).toArray(String[]::new));

  private static final Parameter<Path> HTML =
      Parameter.file("html", "write a page with plots there as well");

  @Override
  public String name() {
    return "bench";
  }

  @Override
  public String summary() {
    return "measures threads, waits, sizes, batches, memory and calls; tables and plots";
  }

  @Override
  public String description() {
    StringBuilder text = new StringBuilder();
    text.append("Measures, and prints a table. TABLE is one of\n\n");
    for (Bench bench : BENCHES) {
      text.append("  %-9s %s\n".formatted(bench.name(), bench.summary()));
    }
    text.append("  %-9s %s\n".formatted(ALL, "all of them"));
    text.append(
        """

        What is compared is measured in turn, in rounds, after a first round that does not count. Figures are the median of
        the rounds, with the slowest and the fastest behind it. Results are checked; a wrong one is exit status 1.
        An option that names tables in brackets goes only with those.""");
    return text.toString();
  }

  @Override
  public Optional<Parameter<String>> operand() {
    return Optional.of(TABLE);
  }

  @Override
  public List<Parameter<?>> parameters() {
    List<Parameter<?>> parameters = new ArrayList<>(BenchOptions.ALL);
    parameters.add(HTML);
    return parameters;
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    Values values = invocation.values();
    String table = values.operand();
    refuseIdle(table, values);
    BenchOptions options = BenchOptions.of(values);
    Optional<Path> html = values.find(HTML);
    html.ifPresent(BenchCommand::checkWritable);
    Findings findings = new Findings();
    List<Sheet> sheets = new ArrayList<>();
    Device device = Devices.open(values, builder -> {});
    try {
      for (Bench bench : BENCHES) {
        boolean wanted = table.equals(ALL) || table.equals(bench.name());
        if (wanted && !invocation.stop().requested()) {
          sheets.add(bench.measure(device, options, invocation, findings));
        }
      }
    } catch (RuntimeException | Error e) {
      Devices.close(device, e);
      throw e;
    }
    Map<String, String> machine = machine(device.info(), options, invocation);
    Devices.close(device, findings);
    print(table, sheets, machine, findings, invocation);
    html.ifPresent(file -> write(file, sheets, machine, findings));
    findings.print(invocation.output(), invocation.verbose());
    if (invocation.stop().requested()) {
      return ExitStatus.INTERRUPTED;
    }
    return findings.none() ? ExitStatus.OK : ExitStatus.CHECK_FAILED;
  }

  private static void refuseIdle(String table, Values values) {
    List<Parameter<?>> used = BenchOptions.of(table);
    for (Parameter<?> option : BenchOptions.ALL) {
      if (!used.contains(option)) {
        values.refuse(
            option,
            "bench "
                + String.join(
                    " or ",
                    BENCHES.stream()
                        .map(Bench::name)
                        .filter(name -> BenchOptions.of(name).contains(option))
                        .toList()));
      }
    }
  }

  /** Better before minutes of measuring than after. */
  private static void checkWritable(Path file) {
    Path folder = file.toAbsolutePath().getParent();
    if (Files.isDirectory(file)) {
      throw new UsageException("--html takes the path of a file, but " + file + " is a directory");
    }
    if (folder == null || !Files.isDirectory(folder)) {
      throw new UsageException(
          "--html takes the path of a file, but there is no directory for " + file);
    }
    if (!Files.isWritable(Files.exists(file) ? file : folder)) {
      throw new UsageException(
          "--html takes the path of a file, but " + file + " cannot be written");
    }
  }

  /** What everything was measured under. */
  private static Map<String, String> machine(
      DeviceInfo device, BenchOptions options, Invocation invocation) {
    Map<String, String> machine = new LinkedHashMap<>();
    machine.put("device", device.backend() + ": " + device.name());
    machine.put("matrix products by", device.math());
    machine.put(
        "machine",
        System.getProperty("os.name")
            + " "
            + System.getProperty("os.arch")
            + ", "
            + Runtime.getRuntime().availableProcessors()
            + " processors");
    machine.put("java", Runtime.version().toString());
    machine.put(
        "measured",
        options.rounds()
            + " rounds in turn after one to warm up, "
            + options.duration().toMillis() / 1000.0
            + " s for each table; median (slowest to fastest round)");
    machine.put("seed", Long.toString(invocation.seed()));
    return machine;
  }

  private static void print(
      String table,
      List<Sheet> sheets,
      Map<String, String> machine,
      Findings findings,
      Invocation invocation) {
    PrintStream out = invocation.output().out();
    if (invocation.json()) {
      Json json = table.equals(ALL) || sheets.isEmpty() ? new Json() : sheets.getFirst().json();
      if (table.equals(ALL)) {
        json.put("tables", sheets.stream().map(Sheet::json).toList());
      }
      Json conditions = new Json();
      machine.forEach((name, value) -> conditions.put(name.replace(' ', '_'), value));
      json.put("measured_on", conditions)
          .put("ok", findings.none())
          .put("interrupted", invocation.stop().requested())
          .put("findings", findings.told())
          .print(out);
      return;
    }
    for (Sheet sheet : sheets) {
      sheet.print(out);
      out.println();
    }
    Table conditions = new Table();
    machine.forEach((name, value) -> conditions.row(name, value));
    conditions.print(out);
    if (invocation.stop().requested()) {
      out.println("Stopped before the end: what is not there was not measured.");
    }
  }

  private static void write(
      Path file, List<Sheet> sheets, Map<String, String> machine, Findings findings) {
    try {
      Files.writeString(file, HtmlPage.of(sheets, machine));
    } catch (IOException e) {
      findings.error("writing " + file, e);
    }
  }
}
