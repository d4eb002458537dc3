package dev.metalstreams.cli;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceEvent;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.HostView;
import dev.metalstreams.Lease;
import dev.metalstreams.StreamPool;
import dev.metalstreams.StreamPoolExhaustedException;
import dev.metalstreams.Tensor;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.BitSet;
import java.util.EnumMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;
import org.jspecify.annotations.Nullable;

/**
 * A worker of a stress run: job after job, each checked.
 *
 * <p>At any time one thread works for a worker: its own, or under churn the one of the present job,
 * which its own thread has started and joins. So all fields are plain but the two that others look
 * at while it works.
 */
final class StressWorker implements Runnable {
  /**
   * Jobs may fail this often before a worker gives up: enough to see a pattern, too few to flood.
   */
  private static final long MOST_FAILURES = 100;

  private static final int MOST_ATTEMPTS = 1000;
  private static final long POLL_NANOS = 20_000;
  private static final long BACK_OFF_NANOS = 100_000;
  private static final int MOST_FILL_BYTES = 1 << 16;
  private static final long LONGEST_LATENCY_NANOS = TimeUnit.HOURS.toNanos(1);

  private final StressRun run;
  private final Device device;
  private final Workload workload;
  private final StressPlan plan;
  private final Findings findings;
  private final int number;
  private final SplittableRandom random;
  private final JobKind[] deck = JobKind.values();
  private final float[] result;
  private final float[] pattern;
  private final Histogram latencies = newHistogram();
  private final BitSet streams = new BitSet();
  private final Set<DeviceStream> used = new LinkedHashSet<>();
  private final Set<DeviceStream> everUsed = new LinkedHashSet<>();
  private final Map<JobKind, Long> kinds = new EnumMap<>(JobKind.class);
  private int dealt;
  private long jobs;
  private long operations;
  private long refused;
  private long failed;
  private long retried;
  private volatile long ended;
  private volatile @Nullable DeviceEvent lastEvent;

  StressWorker(StressRun run, int number) {
    this.run = run;
    this.device = run.device();
    this.workload = run.workload();
    this.plan = run.plan();
    this.findings = run.findings();
    this.number = number;
    this.random = new SplittableRandom(plan.seed() + number * 0x9E3779B97F4A7C15L);
    this.result = new float[elements(workload.resultShape())];
    this.pattern = new float[result.length];
    for (int i = 0; i < pattern.length; i++) {
      pattern[i] = number + i;
    }
  }

  /** Nanoseconds, to a hundredth of their value. */
  static Histogram newHistogram() {
    return new Histogram(LONGEST_LATENCY_NANOS, 2);
  }

  private static int elements(long[] shape) {
    long elements = 1;
    for (long dimension : shape) {
      elements = Math.multiplyExact(elements, dimension);
    }
    return Math.toIntExact(elements);
  }

  @Override
  public void run() {
    ThreadFactory threads = plan.threadFactory();
    while (!run.isOver(jobs) && failed < MOST_FAILURES) {
      if (plan.churn()) {
        Thread thread = threads.newThread(this::job);
        thread.start();
        try {
          thread.join();
        } catch (InterruptedException e) {
          throw new IllegalStateException("interrupted", e);
        }
      } else {
        job();
      }
      jobs++;
      ended = jobs;
    }
  }

  private void job() {
    try {
      if (plan.faults().isPresent()) {
        jobAgainAndAgain(plan.faults().get());
      } else {
        jobOnce();
      }
    } catch (Throwable t) {
      failed++;
      findings.error(where(), t);
    }
  }

  private void jobOnce() {
    if (plan.lease().isPresent()) {
      leasedJob(plan.lease().get());
    } else {
      perform(device.streams().current());
    }
  }

  /**
   * Until no failure is in the way. Nobody is in a job while a stream is reset: whoever shared it
   * would go on with what the failure has spoilt.
   */
  private void jobAgainAndAgain(Faults faults) {
    for (int attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      used.clear();
      run.recovery().readLock().lock();
      try {
        jobOnce();
        everUsed.addAll(used);
        return;
      } catch (Throwable t) {
        if (!faults.explains(t)) {
          throw t;
        }
        retried++;
      } finally {
        run.recovery().readLock().unlock();
      }
      everUsed.addAll(used);
      run.recovery().writeLock().lock();
      try {
        used.forEach(faults::recover);
      } finally {
        run.recovery().writeLock().unlock();
      }
    }
    throw new IllegalStateException("no success in " + MOST_ATTEMPTS + " attempts");
  }

  private void leasedJob(StressPlan.Leasing leasing) {
    StreamPool pool = device.streams();
    Lease lease;
    try {
      lease = pool.lease(leasing.policy(), leasing.timeout());
    } catch (StreamPoolExhaustedException e) {
      refused++;
      LockSupport.parkNanos(BACK_OFF_NANOS); // As a client would that comes again later.
      return;
    }
    try (lease) {
      DeviceStream stream = lease.stream();
      if (!lease.exclusive()) {
        pool.runWith(stream, () -> perform(stream));
        return;
      }
      StressWorker other = run.leaseholders().getAndSet(stream.index(), this);
      if (other != null) {
        findings.error(
            where()
                + ": stream "
                + stream.index()
                + " is leased exclusively to worker "
                + other.number
                + " too");
      }
      try {
        pool.runWith(stream, () -> perform(stream));
      } finally {
        run.leaseholders().compareAndSet(stream.index(), this, null);
      }
    }
  }

  /** One job: the workload once, in one of the ways, and the comparison. */
  private void perform(DeviceStream stream) {
    streams.set(stream.index());
    used.add(stream);
    JobKind kind = nextKind();
    DeviceStream consumer = kind == JobKind.HAND_OVER ? consumerFor(stream) : stream;
    used.add(consumer);
    if (kind == JobKind.HAND_OVER && consumer.index() == stream.index()) {
      kind = JobKind.PLAIN; // There is nobody to hand over to.
    }
    int caseNumber = random.nextInt(workload.cases());
    if (kind == JobKind.FILL_AND_COPY) {
      fillAndCopy(stream);
    }
    long begin = System.nanoTime();
    switch (kind) {
      case PLAIN, FILL_AND_COPY -> plain(stream, caseNumber);
      case HAND_OVER -> handOver(stream, consumer, caseNumber);
      case CLOSED_IN_FLIGHT -> closeInFlight(stream, caseNumber);
      case EVENT -> event(stream, caseNumber);
    }
    latencies.recordValue(Math.min(System.nanoTime() - begin, LONGEST_LATENCY_NANOS));
    compare(stream, kind, workload.expected(caseNumber));
    kinds.merge(kind, 1L, Long::sum);
    operations++;
  }

  /** Deals all kinds in random order before any comes again. */
  private JobKind nextKind() {
    int pick = dealt + random.nextInt(deck.length - dealt);
    JobKind kind = deck[pick];
    deck[pick] = deck[dealt];
    deck[dealt] = kind;
    dealt = (dealt + 1) % deck.length;
    return kind;
  }

  private void compare(DeviceStream stream, JobKind kind, Expected expected) {
    int index = expected.firstMismatch(result);
    if (index >= 0) {
      findings.mismatch(
          String.format(
              "mismatch in %s, stream %d, %s: result[%d] is %s, but should be %s +/- %s",
              where(),
              stream.index(),
              kind.field(),
              index,
              result[index],
              expected.value(index),
              expected.allowed(index)));
    }
  }

  private String where() {
    return "worker "
        + number
        + ", iteration "
        + jobs
        + " (thread "
        + Thread.currentThread().getName()
        + ")";
  }

  private void plain(DeviceStream stream, int caseNumber) {
    List<Tensor> inputs = workload.upload(caseNumber);
    try (Tensor y = workload.run(stream, inputs)) {
      y.toFloats(result);
    } finally {
      inputs.forEach(Tensor::close);
    }
  }

  private void handOver(DeviceStream producer, DeviceStream consumer, int caseNumber) {
    try (Tensor received = device.empty(DType.F32, workload.resultShape())) {
      List<Tensor> inputs = workload.upload(caseNumber);
      try (Tensor y = workload.run(producer, inputs)) {
        consumer.waitFor(producer.record());
        consumer.copy(y.buffer(), 0, received.buffer(), 0, y.buffer().byteSize());
        y.buffer().recordStream(consumer);
      } finally {
        inputs.forEach(Tensor::close);
      }
      received.toFloats(result);
    }
  }

  /** Another stream than that one, where there is one; in a run with leases none that is leased. */
  private DeviceStream consumerFor(DeviceStream producer) {
    StreamPool pool = device.streams();
    if (plan.lease().isPresent()) {
      return pool.next();
    }
    // Not next(): threads that start later take their streams from the same turn.
    int others = pool.size() - 1;
    return others == 0
        ? producer
        : pool.stream((producer.index() + 1 + random.nextInt(others)) % pool.size());
  }

  private void closeInFlight(DeviceStream stream, int caseNumber) {
    List<Tensor> inputs = workload.upload(caseNumber);
    try (Tensor y = workload.run(stream, inputs)) {
      workload.run(stream, inputs).close();
      inputs.forEach(Tensor::close);
      // If memory came back too early, these would lie where the device still reads the inputs, and
      // where it still
      // writes the closed result.
      List<Tensor> decoys = inputs.stream().map(this::decoyOf).toList();
      try (Tensor held = device.tensor(pattern, workload.resultShape())) {
        y.toFloats(result);
        stream.record().await(plan.patience());
        if (!Arrays.equals(held.toFloats(), pattern)) {
          findings.error(
              where() + ": memory that was given out anew was written by work of its former owner");
        }
      } finally {
        decoys.forEach(Tensor::close);
      }
    } finally {
      inputs.forEach(Tensor::close);
    }
  }

  private Tensor decoyOf(Tensor tensor) {
    float[] values = new float[elements(tensor.shape())];
    Arrays.fill(values, Float.NaN);
    return device.tensor(values, tensor.shape());
  }

  private void event(DeviceStream stream, int caseNumber) {
    List<Tensor> inputs = workload.upload(caseNumber);
    try (Tensor y = workload.run(stream, inputs)) {
      DeviceEvent event = stream.record();
      lastEvent = event;
      await(stream, event);
      if (!event.query()) {
        findings.error(where() + ": " + event + " was waited for, but is not complete");
      }
      if (stream.record().value() < event.value()) {
        findings.error(where() + ": the timeline of stream " + stream.index() + " ran backwards");
      }
      y.toFloats(result);
    } finally {
      inputs.forEach(Tensor::close);
    }
  }

  private void await(DeviceStream stream, DeviceEvent event) {
    Duration patience = plan.patience();
    switch (random.nextInt(4)) {
      case 0 -> event.await(patience);
      case 1 -> stream.synchronize(patience);
      case 2 -> event.toFuture().orTimeout(patience.toMillis(), TimeUnit.MILLISECONDS).join();
      default -> {
        stream.flush();
        long begin = System.nanoTime();
        while (!event.query()) {
          if (System.nanoTime() - begin > patience.toNanos()) {
            throw new IllegalStateException(
                event + " was not complete within " + patience.toSeconds() + " s");
          }
          LockSupport.parkNanos(POLL_NANOS);
        }
      }
    }
  }

  private void fillAndCopy(DeviceStream stream) {
    int size = 2 + random.nextInt(MOST_FILL_BYTES - 1);
    int length = 1 + random.nextInt(size - 1);
    int from = random.nextInt(size - length);
    int to = random.nextInt(size - length);
    byte copied = (byte) random.nextInt();
    byte around = (byte) ~copied;
    try (DeviceBuffer source = device.allocate(size);
        DeviceBuffer target = device.allocate(size)) {
      stream.fill(source, copied);
      stream.fill(target, around);
      stream.copy(source, from, target, to, length);
      try (HostView view = target.map()) {
        ByteBuffer bytes = view.bytes();
        for (int i = 0; i < size; i++) {
          byte wanted = i >= to && i < to + length ? copied : around;
          byte got = bytes.get(i);
          if (got != wanted) {
            findings.mismatch(
                String.format(
                    "mismatch in %s, stream %d, fill and copy: byte %d of %d is %d, but should be %d",
                    where(), stream.index(), i, size, got, wanted));
            break;
          }
        }
      }
    }
  }

  /** Jobs that came to an end, however. Readable at any time. */
  long ended() {
    return ended;
  }

  /** The event recorded last. Readable at any time. */
  @Nullable DeviceEvent lastEvent() {
    return lastEvent;
  }

  /** Jobs whose result was compared. */
  long operations() {
    return operations;
  }

  /** Jobs that got no lease. */
  long refused() {
    return refused;
  }

  /** Jobs that threw. */
  long failed() {
    return failed;
  }

  /** The streams that jobs encoded on, where something is made to fail. */
  Set<DeviceStream> everUsed() {
    return everUsed;
  }

  /** Attempts that saw a failure made on purpose. */
  long retried() {
    return retried;
  }

  /** Indices of the streams on which its jobs ran. */
  BitSet streams() {
    return streams;
  }

  /** From the upload to the result on the host. */
  Histogram latencies() {
    return latencies;
  }

  /** How many jobs were of that kind. */
  long count(JobKind kind) {
    return kinds.getOrDefault(kind, 0L);
  }
}
