package dev.metalstreams.cli;

import dev.metalstreams.HazardMode;
import dev.metalstreams.HazardStats;
import dev.metalstreams.MemoryStats;
import dev.metalstreams.driver.DeviceInfo;
import java.io.PrintStream;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.HdrHistogram.Histogram;

/**
 * The accounts of a stress run.
 *
 * @param device where it ran
 * @param workload what it ran
 * @param plan how
 * @param findings what went wrong
 * @param interrupted whether the user stopped it
 * @param operations jobs whose result was compared
 * @param refused jobs that got no lease, as the policy has it
 * @param streamsUsed distinct streams on which jobs ran
 * @param seconds how long it took
 * @param latencies of the jobs, in nanoseconds
 * @param memory of the device
 * @param hazards of the device's race detector
 * @param kinds how many jobs were of which kind
 * @param faults what failed on purpose, if anything was to
 * @param retried attempts at a job that saw such a failure
 * @param synchronizes device-wide synchronizes under load
 * @param abandoned whether threads hang that had to be left behind
 */
record StressReport(
    DeviceInfo device,
    String workload,
    StressPlan plan,
    Findings findings,
    boolean interrupted,
    long operations,
    long refused,
    int streamsUsed,
    double seconds,
    Histogram latencies,
    MemoryStats memory,
    HazardStats hazards,
    Map<JobKind, Long> kinds,
    Optional<Faults.Account> faults,
    long retried,
    long synchronizes,
    boolean abandoned) {

  private static final double NANOS_PER_MICRO = 1e3;

  /** The same accounts with the memory figures of later. */
  StressReport with(MemoryStats later) {
    return new StressReport(
        device,
        workload,
        plan,
        findings,
        interrupted,
        operations,
        refused,
        streamsUsed,
        seconds,
        latencies,
        later,
        hazards,
        kinds,
        faults,
        retried,
        synchronizes,
        abandoned);
  }

  boolean ok() {
    return findings.none();
  }

  ExitStatus status() {
    if (interrupted) {
      return ExitStatus.INTERRUPTED;
    }
    return ok() ? ExitStatus.OK : ExitStatus.CHECK_FAILED;
  }

  private double latencyMicros(double percentile) {
    return latencies.getValueAtPercentile(percentile) / NANOS_PER_MICRO;
  }

  Json json() {
    Json mixed = new Json();
    kinds.forEach((kind, count) -> mixed.put(kind.field(), count));
    mixed.put("device_synchronizes", synchronizes);
    Json json =
        new Json()
            .put("ok", ok())
            .put("workload", workload)
            .put("backend", device.backend())
            .put("operations", operations)
            .put("mismatches", findings.mismatches())
            .put("errors", findings.errors())
            .put("refused", refused)
            .put("ops_per_second", operations / seconds)
            .put("threads", plan.threads())
            .put("streams_used", streamsUsed)
            .put("seconds", seconds)
            .put(
                "latency_us",
                new Json()
                    .put("p50", latencyMicros(50))
                    .put("p90", latencyMicros(90))
                    .put("p99", latencyMicros(99))
                    .put("max", latencies.getMaxValue() / NANOS_PER_MICRO))
            .put(
                "memory",
                new Json()
                    .put("allocated", memory.allocated())
                    .put("active", memory.active())
                    .put("reserved", memory.reserved())
                    .put("peak", memory.peak()))
            .put(
                "hazards",
                new Json()
                    .put("mode", hazards.mode().name().toLowerCase(Locale.ROOT))
                    .put("operations", hazards.operations())
                    .put("races", hazards.races())
                    .put("waits", hazards.waits()))
            .put("mixed", mixed)
            .put("churn", plan.churn())
            .put("virtual", plan.virtualThreads())
            .put("seed", plan.seed())
            .put("interrupted", interrupted)
            .put("findings", findings.told());
    faults.ifPresent(account -> json.put("faults", json(account)));
    return json;
  }

  private Json json(Faults.Account account) {
    Json refusals = new Json();
    account.refusals().forEach(refusals::put);
    return new Json()
        .put("injected", account.injected())
        .put("refused_calls", account.refused())
        .put("refused", refusals)
        .put("failed_command_buffers", account.commandBuffers())
        .put("seen_by_jobs", account.seenByJobs())
        .put("seen_by_synchronizes", account.seenBySynchronizes())
        .put("absorbed", account.absorbed())
        .put("attempts_repeated", retried);
  }

  void print(PrintStream out) {
    Table table =
        new Table()
            .row("result", (ok() ? "ok" : "FAILED") + (interrupted ? " (interrupted)" : ""))
            .row(
                "workload",
                workload
                    + " on "
                    + device.backend()
                    + " ("
                    + device.name()
                    + "), seed "
                    + plan.seed())
            .row(
                "operations",
                Figures.count(operations)
                    + " compared, "
                    + findings.mismatches()
                    + " mismatches, "
                    + findings.errors()
                    + " errors");
    plan.lease()
        .ifPresent(
            leasing ->
                table.row(
                    "refused",
                    Figures.count(refused)
                        + " jobs found every stream leased (policy "
                        + leasing.policy().name().toLowerCase(Locale.ROOT)
                        + ")"));
    table
        .row(
            "threads",
            plan.threads()
                + (plan.virtualThreads() ? " virtual" : "")
                + (plan.churn() ? ", a new one per job" : "")
                + ", on "
                + streamsUsed
                + " streams")
        .row(
            "speed",
            Figures.real(operations / seconds, 0)
                + " operations/s for "
                + Figures.real(seconds, 2)
                + " s")
        .row(
            "latency",
            "p50 "
                + Figures.real(latencyMicros(50), 0)
                + " us, p90 "
                + Figures.real(latencyMicros(90), 0)
                + " us, p99 "
                + Figures.real(latencyMicros(99), 0)
                + " us, max "
                + Figures.real(latencies.getMaxValue() / NANOS_PER_MICRO, 0)
                + " us")
        .row(
            "memory",
            Figures.bytes(memory.allocated())
                + " allocated, "
                + Figures.bytes(memory.reserved())
                + " reserved, "
                + Figures.bytes(memory.peak())
                + " at the peak");
    if (hazards.mode() != HazardMode.OFF) {
      table.row(
          "hazards",
          Figures.count(hazards.operations())
              + " operations looked at, "
              + Figures.count(hazards.races())
              + " races, "
              + Figures.count(hazards.waits())
              + " waits added");
    }
    faults.ifPresent(
        account ->
            table
                .row(
                    "injected",
                    Figures.count(account.refused())
                        + " refused calls, "
                        + Figures.count(account.commandBuffers())
                        + " failed command buffers")
                .row(
                    "of these",
                    Figures.count(account.seenByJobs())
                        + " seen by jobs, "
                        + Figures.count(account.seenBySynchronizes())
                        + " by device synchronizes, "
                        + Figures.count(account.absorbed())
                        + " made up for; "
                        + Figures.count(retried)
                        + " attempts repeated"));
    StringBuilder mixed = new StringBuilder();
    kinds.forEach(
        (kind, count) ->
            mixed
                .append(Figures.count(count))
                .append(' ')
                .append(kind.field().replace('_', ' '))
                .append(", "));
    table.row("mixed in", mixed + Figures.count(synchronizes) + " device synchronizes");
    table.print(out);
  }
}
