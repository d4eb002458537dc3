package dev.metalstreams.batch;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Exhaustion;
import dev.metalstreams.Lease;
import dev.metalstreams.MetalStreamsException;
import dev.metalstreams.WaitInterruptedException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import java.util.function.LongUnaryOperator;
import java.util.function.ToLongFunction;
import org.jspecify.annotations.Nullable;

/**
 * Gathers requests from many threads and serves them in batches.
 *
 * <pre>{@code
 * try (BatchQueue<float[], float[]> queue =
 *     BatchQueue.builder(BatchFunction.of(this::classifyAll)).device(device).maxBatch(64).maxDelay(Duration.ofMillis(2)).build()) {
 *   CompletableFuture<float[]> answer = queue.submit(image);
 * }
 * }</pre>
 *
 * <p><b>When a batch is served.</b> When it is full, when its oldest request has waited for {@code
 * maxDelay} (0, the default, never waits: a batch is what has gathered while the workers were
 * busy), when a deadline comes near, or at the close.
 *
 * <p><b>Exactly once.</b> Every accepted request ends in a result, a failure, a cancellation, an
 * expired deadline or, at a close that runs out of time, in {@link RejectedExecutionException};
 * never in two of them, and never in none.
 *
 * <p><b>Threads.</b> All methods may be called from any thread. Each worker is a daemon thread with
 * a stream of its own, leased from the device if one is given. What depends on a future runs on a
 * virtual thread, not on the worker.
 *
 * @param <I> a request
 * @param <O> its result
 */
public class BatchQueue<I, O> implements AutoCloseable {
  // Invariants, under `lock`:
  //  - a request is put into the line in the same critical section that saw `closing` unset: so
  // after `closing` is set, no request
  //    comes, and the workers, who end only when they see `closing` and an empty line, leave none
  // behind;
  //  - a request is in the line, or in a batch of `serving`, or ended: it goes from one to the
  // other
  // in one critical section;
  //  - if a batch is due before an idle worker looks by itself, a worker has been signalled, or is
  // not idle. A request that brings nothing forward wakes nobody.
  // An outcome is decided by Request.end alone, without this lock.

  private static final System.Logger LOGGER = System.getLogger("dev.metalstreams");
  private static final Duration LONGEST = Duration.ofNanos(Long.MAX_VALUE);

  private final BatchFunction<I, O> function;
  private final @Nullable Device device;
  private final int maxBatch;
  private final long maxDelay;
  private final int capacity;
  private final Overload overload;
  private final int depth;
  private final ToLongFunction<? super I> weigher;
  private final long maxWeight;
  private final LongUnaryOperator fit;
  private final int priorities;
  private final boolean retryAlone;
  private final Duration closeTimeout;
  private final @Nullable Adaption adaption;
  private final LongSupplier clock;
  private final Executor completer;
  private final Consumer<? super O> discard;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition work = lock.newCondition();
  private final Condition space = lock.newCondition();
  private final Line<I, O> line;
  private final Set<Taken<I, O>> serving = ConcurrentHashMap.newKeySet();
  private boolean closing;

  /** Workers that wait for the line. */
  private int idle;

  /**
   * When the first of the idle workers will look at the line by itself, on the queue's clock; the
   * longest time if none will, or if it is not known.
   */
  private long nextLook = Long.MAX_VALUE;

  /** The close ran out of time: workers that are interrupted leave. */
  private volatile boolean abandoned;

  private final AtomicLong numbers = new AtomicLong();
  private final Counts counts = new Counts();
  private final List<Thread> workers = new ArrayList<>();

  /** Exponentially weighted mean of the time to serve a batch. */
  private final AtomicLong serviceNanos = new AtomicLong();

  /** For {@link Builder#build}, and for tests that replace a step. */
  protected BatchQueue(Builder<I, O> builder) {
    this.function = builder.function;
    this.device = builder.device;
    this.maxBatch = builder.maxBatch;
    this.maxDelay = builder.maxDelay.toNanos();
    this.capacity = builder.capacity;
    this.overload = builder.overload;
    this.depth = builder.depth;
    this.weigher = builder.weigher;
    this.maxWeight = builder.maxWeight;
    this.fit = builder.fit;
    this.priorities = builder.priorities;
    this.retryAlone = builder.retryAlone;
    this.closeTimeout = builder.closeTimeout;
    this.adaption =
        builder.latencyTarget == null
            ? null
            : new Adaption(builder.latencyTarget.toNanos(), builder.maxBatch);
    this.clock = builder.clock;
    this.completer = builder.completer;
    this.discard = builder.discard;
    this.line = new Line<>(priorities);
    for (int i = 0; i < builder.workers; i++) {
      Worker worker = new Worker();
      workers.add(
          Thread.ofPlatform()
              .name(builder.name + "-" + i)
              .daemon(true)
              .unstarted(worker::runUntilClosed));
    }
  }

  /** Starts to describe a queue for a function. */
  public static <I, O> Builder<I, O> builder(BatchFunction<I, O> function) {
    return new Builder<>(function);
  }

  void start() {
    workers.forEach(Thread::start);
  }

  // ---- submit

  /**
   * Takes in a request without a deadline, of the lowest priority.
   *
   * @throws RejectedExecutionException if the queue is closed, or full and set to {@link
   *     Overload#REJECT}
   */
  public CompletableFuture<O> submit(I input) {
    return submit(input, LONGEST, 0);
  }

  /**
   * Takes in a request that fails with {@link TimeoutException} if it is not being served within a
   * time.
   *
   * @throws RejectedExecutionException if the queue is closed, or full and set to {@link
   *     Overload#REJECT}
   */
  public CompletableFuture<O> submit(I input, Duration deadline) {
    return submit(input, deadline, 0);
  }

  /**
   * Takes in a request. Cancelling the future withdraws it, and frees its place, unless it is being
   * served already.
   *
   * @param deadline time from now in which it must begin to be served; else it fails with {@link
   *     TimeoutException}
   * @param priority from 0 to one less than the queue's priorities; higher ones are served first,
   *     always
   * @throws IllegalArgumentException if the deadline is negative, the priority does not exist, or
   *     the weight is more than a batch may have, or negative
   * @throws RejectedExecutionException if the queue is closed, or full and set to {@link
   *     Overload#REJECT}
   */
  public CompletableFuture<O> submit(I input, Duration deadline, int priority) {
    Objects.requireNonNull(input, "input");
    if (deadline.isNegative()) {
      throw new IllegalArgumentException("a deadline is not negative: " + deadline);
    }
    if (priority < 0 || priority >= priorities) {
      throw new IllegalArgumentException(
          "priority " + priority + " is not from 0 to " + (priorities - 1));
    }
    long weight = weigher.applyAsLong(input);
    if (weight < 0 || weight > maxWeight) {
      throw new IllegalArgumentException(
          "a request of weight " + weight + "; a batch has from 0 to " + maxWeight);
    }
    long now = clock.getAsLong();
    long nanos = deadline.compareTo(LONGEST) >= 0 ? Long.MAX_VALUE : deadline.toNanos();
    long end = later(now, nanos);
    long number = end == Long.MAX_VALUE ? 0 : numbers.incrementAndGet();
    Request<I, O> request = new Request<>(this, number, input, weight, priority, now, end);
    Taken<I, O> alone = enter(request);
    if (alone != null) {
      serve(alone.requests, alone.reason, () -> serving.remove(alone), null);
    }
    return request;
  }

  private static long later(long now, long nanos) {
    return nanos > Long.MAX_VALUE - Math.max(now, 0) ? Long.MAX_VALUE : now + nanos;
  }

  /** Puts a request into the line; if not, gives what its submitter has to serve. */
  @Nullable Taken<I, O> enter(Request<I, O> request) {
    lock.lock();
    try {
      while (true) {
        if (closing) {
          throw rejected("the batch queue is closed");
        }
        if (line.size() < capacity) {
          push(request);
          return null;
        }
        switch (overload) {
          case REJECT -> throw rejected("the batch queue is full: " + capacity + " requests wait");
          case CALLER_RUNS -> {
            counts.accepted.increment();
            Taken<I, O> alone = new Taken<>(List.of(request), FlushReason.ALONE);
            serving.add(alone);
            return alone;
          }
          case BLOCK -> awaitSpace(request);
        }
      }
    } finally {
      lock.unlock();
    }
  }

  /**
   * Puts a request into the line. Under the lock; a test's broken twin shows what happens without.
   */
  void push(Request<I, O> request) {
    line.add(request);
    counts.accepted.increment();
    if (idle > 0) {
      long due = later(request.submitted, due(request.submitted).in());
      if (due < nextLook) {
        nextLook = due;
        work.signal();
      }
    }
  }

  private Line.Due due(long now) {
    return line.due(now, batchLimit(), maxWeight, maxDelay, serviceNanos.get(), closing);
  }

  ReentrantLock lock() {
    return lock;
  }

  boolean closing() {
    return closing;
  }

  @SuppressWarnings("WaitNotInLoop") // the caller loops
  private void awaitSpace(Request<I, O> request) {
    try {
      if (request.deadline == Long.MAX_VALUE) {
        space.await();
        return;
      }
      long left = request.deadline - clock.getAsLong();
      if (left <= 0) {
        throw rejected("the batch queue stayed full until the request's deadline");
      }
      long unused = space.awaitNanos(left);
      assert unused <= left;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw rejected("interrupted while waiting for a place in the batch queue");
    }
  }

  private RejectedExecutionException rejected(String why) {
    counts.rejected.increment();
    return new RejectedExecutionException(why);
  }

  /** A cancelled request gives its place free. */
  void withdraw(Request<I, O> request) {
    lock.lock();
    try {
      if (line.remove(request)) {
        space.signal();
      }
    } finally {
      lock.unlock();
    }
  }

  void count(Request.Outcome how) {
    counts.ended(how);
  }

  // ---- serve

  /** Requests that were taken out of the line together; known by identity. */
  static final class Taken<I, O> {
    final List<Request<I, O>> requests;
    final FlushReason reason;

    Taken(List<Request<I, O>> requests, FlushReason reason) {
      this.requests = requests;
      this.reason = reason;
    }
  }

  /**
   * Takes the next batch out of the line. It is empty if something expired instead, or if nothing
   * is due and the caller is not patient.
   *
   * @param patient whether to wait until there is a batch
   * @return null when the queue is closing and nothing is left
   */
  final @Nullable Taken<I, O> collect(boolean patient) {
    List<Request<I, O>> expired = List.of();
    lock.lock();
    try {
      while (true) {
        long now = clock.getAsLong();
        expired = line.expired(now);
        if (!expired.isEmpty()) {
          signalSpace(expired.size());
          return new Taken<>(List.of(), FlushReason.DEADLINE);
        }
        if (line.size() == 0 && closing) {
          return null;
        }
        Line.Due due = line.size() == 0 ? null : due(now);
        if (due != null && due.in() == 0) {
          Taken<I, O> taken = new Taken<>(line.take(batchLimit(), weightFor(due)), due.reason());
          serving.add(taken);
          signalSpace(taken.requests.size());
          if (line.size() > 0) {
            work.signal(); // nobody may have planned to look at what is left
          }
          return taken;
        }
        if (!patient) {
          return new Taken<>(List.of(), FlushReason.IDLE);
        }
        awaitWork(now, due == null ? Long.MAX_VALUE : due.in());
      }
    } finally {
      lock.unlock();
      for (Request<I, O> request : expired) {
        request.fail(
            Request.Outcome.EXPIRED,
            new TimeoutException("the request was not served before its deadline"));
      }
    }
  }

  private void signalSpace(int places) {
    if (overload == Overload.BLOCK) {
      for (int i = 0; i < places; i++) {
        space.signal();
      }
    }
  }

  @SuppressWarnings({
    "WaitNotInLoop", // the caller loops
    "InterruptedInCatchBlock" // a worker is interrupted to get a function out of a wait; here it
    // means nothing
  })
  private void awaitWork(long now, long nanos) {
    idle++;
    nextLook = Math.min(nextLook, later(now, nanos));
    try {
      if (nanos == Long.MAX_VALUE) {
        work.await();
      } else {
        long unused = work.awaitNanos(nanos);
        assert unused <= nanos;
      }
    } catch (InterruptedException e) {
      // As if the time were over: the caller looks again.
    } finally {
      idle--;
      nextLook =
          Long.MAX_VALUE; // what others have planned is not known: a signal too many, at most
    }
  }

  /** Up to which weight the next batch goes. The lock is held. */
  private long weightFor(Line.Due due) {
    return switch (due.reason()) {
      case IDLE, DELAY -> Math.min(maxWeight, fit.applyAsLong(line.weight()));
      default -> maxWeight; // it is full, or nothing may be left behind
    };
  }

  private int batchLimit() {
    return adaption == null ? maxBatch : adaption.limit();
  }

  /**
   * Starts to serve requests; `served` runs once they have all ended.
   *
   * @param own the worker's stream
   */
  private void serve(
      List<Request<I, O>> requests,
      FlushReason reason,
      Runnable served,
      @Nullable DeviceStream own) {
    Serving batch = begin(requests, reason, served);
    if (batch == null) {
      served.run();
      return;
    }
    CompletionStage<? extends List<? extends @Nullable O>> stage;
    try {
      if (own != null) {
        recover(own);
      }
      stage = Objects.requireNonNull(function.apply(batch.inputs), "the function gave no stage");
    } catch (Throwable e) {
      stage = CompletableFuture.failedFuture(e);
    }
    stage.whenComplete(
        (results, failure) -> {
          batch.measure();
          complete(() -> batch.conclude(results, failure));
        });
  }

  /**
   * Not on the calling thread: it may be a worker, or the device's, and users' code may hang on the
   * futures.
   */
  private void complete(Runnable end) {
    try {
      completer.execute(end);
    } catch (RuntimeException | Error e) { // rejected, or there are no threads left
      end.run(); // late, on the wrong thread, but never not at all
    }
  }

  /** A batch of those that are still open; null if none is. */
  private @Nullable Serving begin(
      List<Request<I, O>> requests, FlushReason reason, Runnable served) {
    List<Request<I, O>> open = new ArrayList<>(requests.size());
    for (Request<I, O> request : requests) {
      if (request.isOpen()) { // else cancelled on its way here
        open.add(request);
      }
    }
    return open.isEmpty() ? null : new Serving(open, reason, served);
  }

  /** A batch that is being served, until all of its requests have ended. */
  private final class Serving {
    private final List<Request<I, O>> requests;
    private final Runnable served;
    private final long begun = clock.getAsLong();
    final Batch<I> inputs;

    Serving(List<Request<I, O>> requests, FlushReason reason, Runnable served) {
      this.requests = requests;
      this.served = served;
      List<I> all = new ArrayList<>(requests.size());
      for (Request<I, O> request : requests) {
        counts.waits.record(begun - request.submitted);
        all.add(request.input);
      }
      counts.flushed(reason, requests.size());
      this.inputs = new Batch<>(all);
    }

    /** Notes how long it took. */
    void measure() {
      long now = clock.getAsLong();
      counts.services.record(now - begun);
      serviceNanos.updateAndGet(mean -> mean + (now - begun - mean) / 8);
      if (adaption != null) {
        adaption.served(requests.size(), now - requests.get(0).submitted);
      }
    }

    void conclude(@Nullable List<? extends @Nullable O> results, @Nullable Throwable failure) {
      Throwable failed = failure;
      if (failed == null && (results == null || results.size() != requests.size())) {
        failed =
            new IllegalStateException(
                "the function gave "
                    + (results == null ? "no list" : results.size() + " results")
                    + " for "
                    + requests.size()
                    + " requests");
      }
      if (failed != null && retryAlone && requests.size() > 1) {
        retryAlone(requests, 0, served);
        return;
      }
      for (int i = 0; i < requests.size(); i++) {
        Request<I, O> request = requests.get(i);
        Throwable own = inputs.failure(i);
        O result = failed == null && results != null ? results.get(i) : null;
        if (failed == null && own == null && result == null) {
          own = new IllegalStateException("the function gave null for request " + i);
        }
        Throwable why = own != null ? own : failed;
        if (why != null) {
          request.fail(Request.Outcome.FAILED, why);
        } else if (result != null) {
          if (!request.succeed(result)) {
            discard(result);
          }
        }
      }
      served.run();
    }
  }

  private void discard(O result) {
    try {
      discard.accept(result);
    } catch (RuntimeException | Error e) { // the other requests of the batch are still to end
      LOGGER.log(System.Logger.Level.ERROR, "a result that nobody takes was not discarded", e);
    }
  }

  /** One after the other, so that only the bad ones fail. */
  private void retryAlone(List<Request<I, O>> requests, int index, Runnable served) {
    if (index == requests.size()) {
      served.run();
      return;
    }
    serve(
        List.of(requests.get(index)),
        FlushReason.ALONE,
        () -> retryAlone(requests, index + 1, served),
        null);
  }

  /** A batch that failed on the device must not fail those after it. */
  private static void recover(DeviceStream stream) {
    if (stream.failure().isPresent()) {
      try {
        stream.synchronize();
      } catch (MetalStreamsException e) {
        // Its requests have it already.
      }
      stream.reset();
    }
  }

  /** A thread that serves batches, up to `depth` at a time, on a stream of its own. */
  private final class Worker {
    private final Semaphore slots = new Semaphore(depth);

    void runUntilClosed() {
      Device on = device;
      if (on == null) {
        serveAll(null);
        return;
      }
      try (Lease lease = on.streams().lease(Exhaustion.OVERSUBSCRIBE)) {
        DeviceStream stream = lease.stream();
        if (function instanceof Launcher<I, O> launcher) {
          on.streams().runWith(stream, () -> launchAll(launcher, stream));
        } else {
          serveAll(stream);
        }
      } catch (MetalStreamsException e) {
        LOGGER.log(System.Logger.Level.ERROR, "a batch worker has no stream", e);
        failAll(e);
      }
    }

    private void serveAll(@Nullable DeviceStream stream) {
      while (true) {
        if (!acquire(1)) { // before gathering, so that a batch is gathered as late as possible
          return;
        }
        Taken<I, O> next = collect(true);
        if (next == null) {
          acquire(depth - 1); // what is under way ends
          return;
        }
        if (next.requests.isEmpty()) {
          slots.release();
          continue;
        }
        Runnable served = () -> ended(next);
        if (stream == null) {
          serve(next.requests, next.reason, served, null);
        } else {
          stream
              .device()
              .streams()
              .runWith(stream, () -> serve(next.requests, next.reason, served, stream));
        }
      }
    }

    private void ended(Taken<I, O> taken) {
      serving.remove(taken);
      slots.release();
    }

    /** A batch on the device. */
    private final class Launched {
      final Serving serving;
      final Launcher.Flight<O> flight;

      Launched(Serving serving, Launcher.Flight<O> flight) {
        this.serving = serving;
        this.flight = flight;
      }
    }

    /**
     * The loop for a function whose batches this thread waits for itself. While a batch is under
     * way the next one is put behind it, if it is due; the futures of the one before are completed
     * by another thread meanwhile, which may be as many batches behind as are under way.
     */
    private void launchAll(Launcher<I, O> launcher, DeviceStream stream) {
      ArrayDeque<Launched> launched = new ArrayDeque<>(depth);
      while (true) {
        boolean room = launched.size() < depth;
        Taken<I, O> next = room ? collect(launched.isEmpty()) : null;
        if (next != null && !next.requests.isEmpty()) {
          if (!launched.isEmpty()) {
            flush(launched.getLast()); // else it is submitted by the wait for it
          }
          launch(launcher, stream, next, launched);
        } else if (!launched.isEmpty()) {
          land(launched.remove());
        } else if (next == null) {
          acquire(depth);
          return;
        }
      }
    }

    private void flush(Launched last) {
      try {
        last.flight.flush();
      } catch (RuntimeException | Error e) {
        // This was only early: the wait for it tries again, and its requests learn the rest.
        LOGGER.log(System.Logger.Level.DEBUG, "a batch was refused an early submission", e);
      }
    }

    private void launch(
        Launcher<I, O> launcher,
        DeviceStream stream,
        Taken<I, O> next,
        ArrayDeque<Launched> launched) {
      Serving batch = begin(next.requests, next.reason, () -> ended(next));
      if (batch == null) {
        serving.remove(next);
        return;
      }
      try {
        if (stream.failure().isPresent()) {
          while (!launched.isEmpty()) {
            land(launched.remove()); // they share its failure
          }
          recover(stream);
        }
        launched.add(new Launched(batch, launcher.launch(batch.inputs)));
      } catch (Throwable e) {
        conclude(batch, null, e);
      }
    }

    private void land(Launched oldest) {
      Throwable failure = null;
      boolean over = false;
      while (!over) {
        try {
          if (abandoned) {
            throw new RejectedExecutionException("the batch queue was closed");
          }
          oldest.flight.await();
          over = true;
        } catch (WaitInterruptedException e) {
          // The close has given up on it; else an interrupt means nothing here.
          Thread.interrupted();
        } catch (Throwable e) {
          failure = e;
          over = true;
        }
      }
      if (failure == null) {
        conclude(oldest.serving, oldest.flight, null);
      } else {
        oldest.flight.abandon();
        conclude(oldest.serving, null, failure);
      }
    }

    /**
     * Has the requests ended, by another thread; waits if that is `depth` batches behind. The slot
     * is given back at their end.
     */
    private void conclude(
        Serving batch, Launcher.@Nullable Flight<O> landed, @Nullable Throwable failure) {
      batch.measure();
      acquire(1);
      complete(
          () -> {
            List<@Nullable O> values = List.of();
            Throwable failed = failure;
            if (landed != null) {
              try {
                values = landed.results();
              } catch (Throwable e) {
                failed = e;
              }
            }
            batch.conclude(values, failed);
          });
    }

    /** False if the queue has given up on what is under way. */
    private boolean acquire(int permits) {
      while (!abandoned) { // looked at first: an earlier wait may have taken the interrupt
        try {
          slots.acquire(permits);
          return true;
        } catch (InterruptedException e) {
          // The close has given up; else an interrupt means nothing here.
        }
      }
      return false;
    }
  }

  // ---- the end

  /** Closes the queue; as {@link #close(Duration)} with the time given to the builder. */
  @Override
  public void close() {
    close(closeTimeout);
  }

  /**
   * Closes the queue: refuses new requests, serves those that wait, and waits for the workers. What
   * is not served when the time is over fails with {@link RejectedExecutionException}. Idempotent.
   * An interrupt ends the waiting as if the time were over, and is kept.
   */
  public void close(Duration timeout) {
    long end =
        System.nanoTime()
            + Math.max(0, timeout.compareTo(LONGEST) >= 0 ? Long.MAX_VALUE / 2 : timeout.toNanos());
    shut();
    boolean interrupted = false;
    for (Thread worker : workers) {
      try {
        long left = Math.max(1, end - System.nanoTime());
        if (interrupted || !worker.join(Duration.ofNanos(left))) {
          failAll(
              new RejectedExecutionException(
                  "the batch queue was closed before the request was served"));
          worker.interrupt();
        }
      } catch (InterruptedException e) {
        interrupted = true;
        failAll(
            new RejectedExecutionException(
                "the batch queue was closed before the request was served"));
        worker.interrupt();
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** From now on nothing comes into the line. */
  final void shut() {
    lock.lock();
    try {
      closing = true;
      work.signalAll();
      space.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private void failAll(Exception why) {
    List<Request<I, O>> left = new ArrayList<>();
    lock.lock();
    try {
      closing = true;
      abandoned = true;
      left.addAll(line.takeAll());
      serving.forEach(taken -> left.addAll(taken.requests));
      work.signalAll();
      space.signalAll();
    } finally {
      lock.unlock();
    }
    for (Request<I, O> request : left) {
      request.fail(Request.Outcome.ABANDONED, why);
    }
  }

  /** What has been done so far. */
  public BatchStats stats() {
    int waiting;
    lock.lock();
    try {
      waiting = line.size();
    } finally {
      lock.unlock();
    }
    return counts.read(waiting, maxBatch, batchLimit());
  }

  @Override
  public String toString() {
    return "batch queue of up to " + maxBatch;
  }

  /**
   * Describes a {@link BatchQueue}.
   *
   * @param <I> a request
   * @param <O> its result
   */
  public static final class Builder<I, O> {
    private final BatchFunction<I, O> function;
    private @Nullable Device device;
    private int maxBatch = 32;
    private Duration maxDelay = Duration.ZERO;
    private int capacity = 1024;
    private Overload overload = Overload.REJECT;
    private int workers = 1;
    private int depth = 1;
    private ToLongFunction<? super I> weigher = input -> 0;
    private long maxWeight = Long.MAX_VALUE;
    private LongUnaryOperator fit = LongUnaryOperator.identity();
    private int priorities = 1;
    private boolean retryAlone;
    private Duration closeTimeout = Duration.ofSeconds(10);
    private @Nullable Duration latencyTarget;
    private String name = "metalstreams-batch";
    private LongSupplier clock = System::nanoTime;
    private Consumer<? super O> discard = result -> {};
    private Executor completer = Thread::startVirtualThread;

    private Builder(BatchFunction<I, O> function) {
      this.function = Objects.requireNonNull(function, "function");
    }

    /** The device on which each worker leases a stream, current while the function is called. */
    public Builder<I, O> device(Device device) {
      this.device = Objects.requireNonNull(device, "device");
      return this;
    }

    /** Most requests in a batch; 32 unless set. */
    public Builder<I, O> maxBatch(int requests) {
      this.maxBatch = positive(requests, "maxBatch");
      return this;
    }

    /**
     * Longest that a request waits for others, from its own submission; 0, unless set, never waits.
     */
    public Builder<I, O> maxDelay(Duration delay) {
      if (delay.isNegative()) {
        throw new IllegalArgumentException("maxDelay is not negative: " + delay);
      }
      this.maxDelay = delay;
      return this;
    }

    /** Most requests that wait; 1024 unless set. */
    public Builder<I, O> capacity(int requests) {
      this.capacity = positive(requests, "capacity");
      return this;
    }

    /** What happens to a request when so many wait; {@link Overload#REJECT} unless set. */
    public Builder<I, O> overload(Overload policy) {
      this.overload = Objects.requireNonNull(policy, "policy");
      return this;
    }

    /** Threads that serve; 1 unless set. */
    public Builder<I, O> workers(int threads) {
      this.workers = positive(threads, "workers");
      return this;
    }

    /**
     * Batches that a worker has under way at a time, if the function returns before they are done;
     * 1 unless set.
     */
    public Builder<I, O> pipeline(int batches) {
      this.depth = positive(batches, "pipeline");
      return this;
    }

    /**
     * Limits batches by the sum of weights as well, say of elements; one request is always served.
     */
    public Builder<I, O> weigher(ToLongFunction<? super I> weigher, long maxWeight) {
      this.weigher = Objects.requireNonNull(weigher, "weigher");
      if (maxWeight <= 0) {
        throw new IllegalArgumentException("maxWeight is positive, not " + maxWeight);
      }
      this.maxWeight = maxWeight;
      return this;
    }

    /** How many priorities there are; 1 unless set. */
    public Builder<I, O> priorities(int count) {
      this.priorities = positive(count, "priorities");
      return this;
    }

    /** Tries the requests of a batch that failed one by one, so that only the bad ones fail. */
    public Builder<I, O> retryAlone(boolean retry) {
      this.retryAlone = retry;
      return this;
    }

    /**
     * Finds the batch size for a latency, from submission to result: one more after a full batch
     * that met it, a quarter less after one that did not.
     */
    public Builder<I, O> latencyTarget(Duration target) {
      if (target.isNegative() || target.isZero()) {
        throw new IllegalArgumentException("a latency target is positive: " + target);
      }
      this.latencyTarget = target;
      return this;
    }

    /** Longest that {@link BatchQueue#close()} waits; 10 s unless set. */
    public Builder<I, O> closeTimeout(Duration timeout) {
      if (timeout.isNegative()) {
        throw new IllegalArgumentException("closeTimeout is not negative: " + timeout);
      }
      this.closeTimeout = timeout;
      return this;
    }

    /** First part of the workers' names. */
    public Builder<I, O> name(String name) {
      this.name = Objects.requireNonNull(name, "name");
      return this;
    }

    /** Where futures are completed; a new virtual thread for each batch unless set. */
    public Builder<I, O> completer(Executor completer) {
      this.completer = Objects.requireNonNull(completer, "completer");
      return this;
    }

    /**
     * What to do with a result that nobody takes, because its request was cancelled or abandoned
     * meanwhile: closing it, for example.
     */
    public Builder<I, O> discard(Consumer<? super O> discard) {
      this.discard = Objects.requireNonNull(discard, "discard");
      return this;
    }

    /** How much of a weight that waits is a good batch, if not all of it; more than 0. */
    Builder<I, O> fit(LongUnaryOperator fit) {
      this.fit = fit;
      return this;
    }

    /** The clock for delays and deadlines, in nanoseconds. */
    Builder<I, O> clock(LongSupplier clock) {
      this.clock = clock;
      return this;
    }

    private static int positive(int value, String what) {
      if (value <= 0) {
        throw new IllegalArgumentException(what + " is positive, not " + value);
      }
      return value;
    }

    /** Makes the queue and starts its workers. */
    public BatchQueue<I, O> build() {
      BatchQueue<I, O> queue = new BatchQueue<>(this);
      queue.start();
      return queue;
    }
  }
}
