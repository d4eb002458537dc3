package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceEvent;
import dev.metalstreams.HazardStats;
import dev.metalstreams.MemoryStats;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.HdrHistogram.Histogram;
import org.jspecify.annotations.Nullable;

/**
 * One stress run: workers, a thread that synchronizes the whole device under their load, and the
 * accounts afterwards.
 *
 * <p>What a worker counts, only that worker writes, and it is added up after the worker's thread
 * has ended; the one figure read before is {@link StressWorker#ended}. At the end every job must be
 * accounted for, and the device must hold as much memory as before.
 */
final class StressRun {
  private static final long SYNCHRONIZE_PAUSE_NANOS = 2_000_000;
  private static final int MOST_SYNCHRONIZE_ERRORS = 10;

  private final Device device;
  private final Workload workload;
  private final StressPlan plan;
  private final StopSignal stop;
  private final Output output;
  private final Findings findings = new Findings();
  private final List<StressWorker> workers = new ArrayList<>();

  /** Which worker has an exclusive lease of the stream of that index. */
  private final AtomicReferenceArray<@Nullable StressWorker> leaseholders;

  /** Held for reading by jobs, and for writing by who resets a stream that others may use. */
  private final ReadWriteLock recovery = new ReentrantReadWriteLock();

  private volatile boolean over;
  private volatile long deadline;
  private long synchronizes;

  StressRun(Device device, Workload workload, StressPlan plan, StopSignal stop, Output output) {
    this.device = device;
    this.workload = workload;
    this.plan = plan;
    this.stop = stop;
    this.output = output;
    this.leaseholders = new AtomicReferenceArray<>(device.streams().size());
  }

  /** Runs it and gives the accounts. */
  StressReport run() {
    long heldBefore = device.memory().stats().allocated();
    for (int number = 0; number < plan.threads(); number++) {
      workers.add(new StressWorker(this, number));
    }
    Thread synchronizer =
        Thread.ofPlatform()
            .daemon()
            .name("stress-synchronize")
            .unstarted(this::synchronizeAgainAndAgain);
    Progress progress = new Progress(output);
    long begin = System.nanoTime();
    deadline = begin + plan.duration().map(duration -> duration.toNanos()).orElse(0L);
    plan.faults().ifPresent(faults -> faults.arm(true));
    synchronizer.start();
    boolean ended;
    try {
      ended =
          Crew.run(
              List.copyOf(workers),
              plan.threadFactory(),
              this::jobsEnded,
              plan.patience(),
              () -> showProgress(progress, begin),
              findings);
      over = true;
      LockSupport.unpark(synchronizer);
      ended &= synchronizer.join(plan.patience());
    } catch (InterruptedException e) {
      throw new IllegalStateException("interrupted", e);
    }
    plan.faults().ifPresent(faults -> faults.arm(false));
    progress.clear();
    double seconds = (System.nanoTime() - begin) / 1e9;
    if (ended) {
      settle(heldBefore);
    }
    return report(ended, seconds);
  }

  /** Whether a worker that has ended that many jobs is to stop. */
  boolean isOver(long jobs) {
    if (stop.requested()) {
      return true;
    }
    return plan.duration().isPresent()
        ? System.nanoTime() - deadline >= 0
        : jobs >= plan.iterations();
  }

  private long jobsEnded() {
    return workers.stream().mapToLong(StressWorker::ended).sum();
  }

  private void showProgress(Progress progress, long begin) {
    double seconds = (System.nanoTime() - begin) / 1e9;
    long jobs = jobsEnded();
    double fraction =
        plan.duration().isPresent()
            ? seconds / (plan.duration().get().toNanos() / 1e9)
            : (double) jobs / plan.jobs();
    progress.show(
        fraction, Figures.count(jobs) + " jobs, " + Figures.count((long) (jobs / seconds)) + "/s");
  }

  /** Events that were recorded before the device is synchronized must be complete after. */
  private void synchronizeAgainAndAgain() {
    int failed = 0;
    while (!over && failed < MOST_SYNCHRONIZE_ERRORS) {
      List<DeviceEvent> before = new ArrayList<>();
      for (StressWorker worker : workers) {
        DeviceEvent event = worker.lastEvent();
        if (event != null) {
          before.add(event);
        }
      }
      try {
        device.synchronize(plan.patience());
        for (DeviceEvent event : before) {
          if (!event.query()) {
            findings.error(
                event + " was recorded before the device was synchronized, but is not complete");
          }
        }
        synchronizes++;
      } catch (RuntimeException | Error e) {
        if (plan.faults().filter(faults -> faults.explainsSynchronize(e)).isEmpty()) {
          failed++;
          findings.error("device-wide synchronize under load", e);
        }
      }
      LockSupport.parkNanos(SYNCHRONIZE_PAUSE_NANOS);
    }
  }

  private void settle(long heldBefore) {
    plan.faults()
        .ifPresent(faults -> workers.forEach(worker -> worker.everUsed().forEach(faults::recover)));
    try {
      device.synchronize(plan.patience());
    } catch (RuntimeException | Error e) {
      findings.error("device-wide synchronize at the end", e);
    }
    long leaked = device.memory().stats().allocated() - heldBefore;
    if (leaked != 0) {
      findings.inTheEnd(
          "memory leaks: "
              + leaked
              + " bytes are still allocated although every buffer was closed");
    }
  }

  private StressReport report(boolean ended, double seconds) {
    long operations = 0;
    long refused = 0;
    long failed = 0;
    long retried = 0;
    BitSet streams = new BitSet();
    Map<JobKind, Long> kinds = new EnumMap<>(JobKind.class);
    Histogram latencies = StressWorker.newHistogram();
    if (ended) {
      for (StressWorker worker : workers) {
        operations += worker.operations();
        refused += worker.refused();
        failed += worker.failed();
        retried += worker.retried();
        streams.or(worker.streams());
        latencies.add(worker.latencies());
        for (JobKind kind : JobKind.values()) {
          kinds.merge(kind, worker.count(kind), Long::sum);
        }
      }
      account(operations, refused, failed);
    }
    MemoryStats memory = device.memory().stats();
    HazardStats hazards = device.hazards();
    if (hazards.races() > 0) {
      findings.inTheEnd(hazards.races() + " races were found");
    }
    return new StressReport(
        device.info(),
        workload.name(),
        plan,
        findings,
        stop.requested(),
        operations,
        refused,
        streams.cardinality(),
        seconds,
        latencies,
        memory,
        hazards,
        kinds,
        plan.faults().map(Faults::account),
        retried,
        ended ? synchronizes : 0,
        !ended);
  }

  private void account(long operations, long refused, long failed) {
    long accounted = operations + refused + failed;
    if (plan.duration().isEmpty() && !stop.requested() && accounted != plan.jobs()) {
      findings.inTheEnd(
          "work is lost: of " + plan.jobs() + " jobs only " + accounted + " came to an end");
    }
    if (refused > 0 && plan.threads() < device.streams().size()) {
      // Each worker holds one lease at a time, and every stream but the first can be leased.
      findings.inTheEnd(
          refused + " jobs were refused a stream although there are more streams than threads");
    }
    if (operations == 0 && !stop.requested() && findings.none()) {
      findings.inTheEnd(
          "nothing ran" + (refused > 0 ? ": all " + refused + " jobs were refused a stream" : ""));
    }
  }

  Device device() {
    return device;
  }

  Workload workload() {
    return workload;
  }

  StressPlan plan() {
    return plan;
  }

  ReadWriteLock recovery() {
    return recovery;
  }

  Findings findings() {
    return findings;
  }

  AtomicReferenceArray<@Nullable StressWorker> leaseholders() {
    return leaseholders;
  }
}
