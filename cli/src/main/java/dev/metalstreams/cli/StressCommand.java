package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.Exhaustion;
import dev.metalstreams.HazardMode;
import dev.metalstreams.MemoryStats;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.UnaryOperator;

/** {@code stress}: many threads through the pool, every result checked. */
final class StressCommand implements Command {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final String DIGITS = "digits";
  private static final String TRANSFORMER = "transformer";

  private static final Parameter<Long> THREADS =
      Parameter.wholeNumber("threads", 1, 10_000, 8, "threads that work at once");
  private static final Parameter<Long> ITERATIONS =
      Parameter.wholeNumber("iterations", 1, 1_000_000_000, 50, "jobs of each thread");
  private static final Parameter<Duration> DURATION =
      Parameter.duration(
          "duration", Optional.empty(), "how long to go on, such as 30s; wins over --iterations");
  private static final Parameter<String> WORKLOAD =
      Parameter.choice(
          "workload", DIGITS, "what a job runs", DIGITS, TRANSFORMER, MatmulWorkload.NAME);
  private static final Parameter<Long> SIZE =
      Parameter.wholeNumber("size", 1, 2048, 256, "rows and columns of the matrices of matmul");
  private static final Parameter<Long> POOL_SIZE =
      Parameter.wholeNumber(
          "pool-size",
          1,
          1024,
          Optional.empty(),
          "streams in the pool (default: as set, 32 if not)");
  private static final Parameter<String> EXHAUSTION =
      Parameter.choice(
          "exhaustion",
          Optional.empty(),
          "what a job does when it finds no stream to lease (default: no leases)",
          "oversubscribe",
          "fail",
          "wait",
          "timeout");
  private static final Parameter<Duration> TIMEOUT =
      Parameter.duration("timeout", Optional.of("5s"), "how long --exhaustion timeout waits");
  private static final Parameter<String> HAZARDS =
      Parameter.choice(
          "hazards",
          Optional.empty(),
          "what becomes of races between streams (default: as set, off if not)",
          "off",
          "detect",
          "order");
  private static final Parameter<Boolean> CHURN =
      Parameter.flag("churn", "give each job a new thread");
  private static final Parameter<Boolean> FAULTS =
      Parameter.flag("faults", "make calls and command buffers fail at random");
  private static final Parameter<Boolean> VIRTUAL =
      Parameter.flag("virtual", "use virtual threads");

  private final UnaryOperator<Workload> wrapper;
  private final Duration patience;

  StressCommand() {
    this(UnaryOperator.identity(), PATIENCE);
  }

  /**
   * A command under test.
   *
   * @param wrapper puts something between the run and the workload
   * @param patience how long nothing may get on
   */
  StressCommand(UnaryOperator<Workload> wrapper, Duration patience) {
    this.wrapper = wrapper;
    this.patience = patience;
  }

  @Override
  public String name() {
    return "stress";
  }

  @Override
  public String summary() {
    return "runs a workload through the pool from many threads and checks every result";
  }

  @Override
  public String description() {
    return """
    Runs a workload through the pool from many threads and compares every result with a reference: digits (an mlp)
    and transformer with the logits that PyTorch gave, matmul with a product in double precision. Mixed in, in random
    order: results handed over to another stream, buffers closed in flight, events waited for in every way, fills and
    copies; and all the while another thread synchronizes the whole device. At the end every job and every byte must
    be accounted for. With --hazards detect a race between two streams, or a stream and the CPU, is an error.

    With --exhaustion each job runs on a leased stream. A job that is refused one, which fail and timeout may do, counts
    as refused and not as an error.

    With --faults calls of the driver are refused and command buffers fail, at random. A job that sees such a failure
    is tried again until it succeeds. The account says how many failed, who saw them, and that nothing was lost.\
    """;
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(
        THREADS,
        ITERATIONS,
        DURATION,
        WORKLOAD,
        SIZE,
        POOL_SIZE,
        EXHAUSTION,
        TIMEOUT,
        HAZARDS,
        CHURN,
        FAULTS,
        VIRTUAL);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    Values values = invocation.values();
    String name = values.get(WORKLOAD);
    if (!name.equals(MatmulWorkload.NAME)) {
      values.refuse(SIZE, "--workload matmul");
    }
    StressPlan plan = plan(invocation);
    Device device =
        Devices.open(
            values,
            builder -> {
              values.find(POOL_SIZE).ifPresent(size -> builder.poolSize(Math.toIntExact(size)));
              values
                  .find(HAZARDS)
                  .map(text -> HazardMode.valueOf(text.toUpperCase(Locale.ROOT)))
                  .ifPresent(builder::hazards);
              plan.faults().ifPresent(builder::driver);
            });
    StressReport report;
    try {
      checkLeasable(plan, device);
      report =
          stress(
              device, workload(name, device, values.getInt(SIZE), plan.seed()), plan, invocation);
    } catch (RuntimeException | Error e) {
      Devices.close(device, e);
      throw e;
    }
    if (!report.abandoned()) {
      Devices.close(device, report.findings());
    }
    return conclude(report, invocation);
  }

  private static void checkLeasable(StressPlan plan, Device device) {
    boolean mustBeExclusive =
        plan.lease().filter(leasing -> leasing.policy() != Exhaustion.OVERSUBSCRIBE).isPresent();
    if (mustBeExclusive && device.streams().size() == 1) {
      throw new UsageException(
          "--exhaustion needs a pool of 2 streams or more, since stream 0 is never leased");
    }
  }

  /**
   * Runs it; afterwards nothing may be allocated any more. Where threads hang, nothing is closed
   * under them.
   */
  private StressReport stress(
      Device device, Workload bare, StressPlan plan, Invocation invocation) {
    Workload workload = wrapper.apply(bare);
    StressReport report =
        new StressRun(device, workload, plan, invocation.stop(), invocation.output()).run();
    if (report.abandoned()) {
      return report;
    }
    workload.close();
    MemoryStats after = device.memory().stats();
    if (after.allocated() != 0 && report.findings().none()) {
      report
          .findings()
          .inTheEnd(
              after.allocated() + " bytes are still allocated although the workload was closed");
    }
    return report.with(after);
  }

  private ExitStatus conclude(StressReport report, Invocation invocation) {
    if (invocation.json()) {
      report.json().print(invocation.output().out());
    } else {
      report.print(invocation.output().out());
    }
    report.findings().print(invocation.output(), invocation.verbose());
    return report.status();
  }

  private StressPlan plan(Invocation invocation) {
    Values values = invocation.values();
    Optional<Exhaustion> policy =
        values.find(EXHAUSTION).map(text -> Exhaustion.valueOf(text.toUpperCase(Locale.ROOT)));
    if (policy.filter(Exhaustion.TIMEOUT::equals).isEmpty()) {
      values.refuse(TIMEOUT, "--exhaustion timeout");
    }
    return new StressPlan(
        values.getInt(THREADS),
        values.get(ITERATIONS),
        values.find(DURATION),
        values.has(CHURN),
        values.has(VIRTUAL),
        policy.map(p -> new StressPlan.Leasing(p, values.get(TIMEOUT))),
        values.has(FAULTS) ? Optional.of(new Faults(invocation.seed())) : Optional.empty(),
        invocation.seed(),
        patience);
  }

  private static Workload workload(String name, Device device, int size, long seed) {
    return switch (name) {
      case MatmulWorkload.NAME -> new MatmulWorkload(device, size, seed);
      case TRANSFORMER -> new DigitsWorkload(device, name, Architecture.TRANSFORMER);
      default -> new DigitsWorkload(device, name, Architecture.MLP);
    };
  }
}
