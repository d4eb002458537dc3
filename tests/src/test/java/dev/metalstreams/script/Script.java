package dev.metalstreams.script;

import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.ScriptedDriver.Mode;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * Remote control of one scripted device: the test decides which queue runs next, what fails and
 * what is lost, and reads what the device saw. Thread-safe. Queues are named by their ids.
 *
 * <p>With {@link #manual()} nothing runs by itself, but for {@code destroyQueue} and {@code close},
 * which finish what they wait for. {@link #automatic()} has a thread that runs all that can run,
 * {@link #immediate()} runs it in the commit, {@link #waitedFor()} in the thread that waits.
 */
public final class Script {
  private final ScriptedDriver driver;
  private final AtomicReference<@Nullable DriverOptions> options = new AtomicReference<>();

  private Script(ScriptedDriver driver) {
    this.driver = driver;
  }

  /** Nothing runs until the test says so. */
  public static Script manual() {
    return new Builder(Mode.MANUAL).build();
  }

  /** A thread of the device runs what can run. */
  public static Script automatic() {
    return new Builder(Mode.AUTOMATIC).build();
  }

  /** The committing thread runs what can run. */
  public static Script immediate() {
    return new Builder(Mode.IMMEDIATE).build();
  }

  /** Who waits natively runs what can run meanwhile. */
  public static Script waitedFor() {
    return new Builder(Mode.WAITED_FOR).canAwait().build();
  }

  /** As {@link #manual()}, with more to choose. */
  public static Builder manualBuilder() {
    return new Builder(Mode.MANUAL);
  }

  /** As {@link #automatic()}, with more to choose. */
  public static Builder automaticBuilder() {
    return new Builder(Mode.AUTOMATIC);
  }

  /** Properties of the device that do not change. */
  public static final class Builder {
    private final Mode mode;
    private boolean canAwait;
    private long memoryLimit = 1L << 32;
    private LongSupplier clock = System::nanoTime;
    private @Nullable Random order;

    private Builder(Mode mode) {
      this.mode = mode;
    }

    /** Makes {@link Driver#awaitValue} wait; else it only looks. */
    public Builder canAwait() {
      canAwait = true;
      return this;
    }

    /** Buffers beyond this many bytes are refused. */
    public Builder memoryLimit(long bytes) {
      memoryLimit = bytes;
      return this;
    }

    /** Gives the device's start and end times, in nanoseconds. */
    public Builder clock(LongSupplier nanos) {
      clock = nanos;
      return this;
    }

    /** Draws the queue that goes next, instead of the oldest command buffer's. */
    public Builder seed(long seed) {
      order = new Random(seed);
      return this;
    }

    /** The device. */
    public Script build() {
      return new Script(new ScriptedDriver(mode, canAwait, memoryLimit, clock, order));
    }
  }

  /** The driver. */
  public Driver driver() {
    return driver;
  }

  /** Gives the driver, once, and keeps what it was asked for. */
  public DriverProvider provider() {
    return asked -> {
      if (!options.compareAndSet(null, asked)) {
        throw new DriverException(Status.NO_DEVICE, "the scripted device is open already");
      }
      return driver;
    };
  }

  /** What the provider was asked for; null before. */
  public @Nullable DriverOptions options() {
    return options.get();
  }

  // ---- running

  /** The queues whose oldest command buffer can make a step, oldest first. */
  public List<Long> runnable() {
    return driver.act(driver::runnableIds);
  }

  /**
   * Makes one step: an operation, or the completion after the last one.
   *
   * @return whether it was the completion
   * @throws IllegalStateException if the queue is idle or waits for another
   */
  public boolean step(long queueId) {
    return driver.act(() -> driver.stepById(queueId));
  }

  /**
   * Runs the oldest command buffer of the queue to its completion.
   *
   * @throws IllegalStateException if it cannot run, or waits for another queue on the way
   */
  public void run(long queueId) {
    driver.act(
        () -> {
          boolean completed = false;
          while (!completed) {
            completed = driver.stepById(queueId);
          }
          return completed;
        });
  }

  /** Runs all that can run, oldest first. */
  public void runAll() {
    driver.act(
        () -> {
          boolean more = true;
          while (more) {
            more = driver.stepOldest();
          }
          return more;
        });
  }

  /** Runs all that can run, step by step in an order drawn with this seed. */
  public void runRandomly(long seed) {
    Random random = new Random(seed);
    driver.act(
        () -> {
          boolean more = true;
          while (more) {
            more = driver.stepAnyOf(random);
          }
          return more;
        });
  }

  /**
   * The test is over: holds and interceptions end, and what is committed runs, now and from now on.
   */
  public void letRun() {
    change(driver::letRun);
  }

  /** From now on, which queue goes next is drawn; for devices that run by themselves. */
  public void seed(long seed) {
    change(() -> driver.setOrder(new Random(seed)));
  }

  /** Keeps the queue from starting command buffers; the one that runs is finished. */
  public void hold(long queueId) {
    change(() -> driver.byId(queueId).held = true);
  }

  /** Ends {@link #hold}. */
  public void release(long queueId) {
    change(
        () -> {
          ScriptedQueue queue = driver.byId(queueId);
          queue.held = false;
          queue.steps = 0;
        });
  }

  /** Lets this many command buffers of a held queue run. */
  public void allow(long queueId, int count) {
    change(() -> driver.byId(queueId).steps += count);
  }

  /**
   * The draining thread gets nothing more until {@link #releaseCompletions}, as if it were not
   * scheduled.
   */
  public void holdCompletions() {
    change(() -> driver.holdCompletions(true));
  }

  /** Lets this many completions pass although they are held. */
  public void allowCompletions(int count) {
    change(() -> driver.allowCompletions(count));
  }

  /** Ends {@link #holdCompletions}. */
  public void releaseCompletions() {
    change(() -> driver.holdCompletions(false));
  }

  // ---- harm

  /**
   * The command buffer that makes the queue's next step fails there. Several are used up one by
   * one.
   */
  public void fail(long queueId, Status status, String message) {
    change(
        () ->
            driver
                .byId(queueId)
                .failuresToCome
                .addLast(new CompletionFailure(status, message, 0, 0)));
  }

  /**
   * The next command buffer of the queue runs, but nobody is told: neither its value nor its
   * completion shows.
   */
  public void loseSignal(long queueId) {
    change(() -> driver.byId(queueId).losesSignal = true);
  }

  /**
   * The value of the next command buffer of the queue shows, but its completion is never delivered.
   */
  public void loseCompletion(long queueId) {
    change(() -> driver.byId(queueId).losesCompletion = true);
  }

  /** The n-th call (1 = the next) of this method of {@link Driver} is refused, once. */
  public void refuse(String method, int n, Status status) {
    AtomicInteger left = new AtomicInteger(n);
    intercept(
        method,
        () -> {
          if (left.decrementAndGet() == 0) {
            throw new DriverException(status, "planned refusal of " + method);
          }
        });
  }

  /**
   * Runs the action at the start of each call of this method of {@link Driver}, in the calling
   * thread; null ends it.
   */
  public void intercept(String method, @Nullable Runnable action) {
    driver.setInterceptor(method, action);
  }

  /** Keeps each thread that calls this method of {@link Driver} at its start. */
  public Halt halt(String method) {
    Halt halt = new Halt();
    intercept(method, halt::keep);
    return halt;
  }

  /** Sets the memory limit. Buffers that exist stay. */
  public void memoryLimit(long bytes) {
    change(() -> driver.setMemoryLimit(bytes));
  }

  // ---- seeing

  /** The live queues. */
  public List<Long> queues() {
    return driver.queueIds();
  }

  /** The id of the queue with this handle. */
  public long idOf(long queueHandle) {
    return driver.act(() -> driver.byHandle(queueHandle).id);
  }

  /** The last committed value. */
  public long committed(long queueId) {
    return driver.act(() -> driver.byId(queueId).committed);
  }

  /** The last completed value. */
  public long completed(long queueId) {
    return driver.byId(queueId).completed;
  }

  /** Uncompleted command buffers, the open one included. */
  public int inFlight(long queueId) {
    return driver.act(() -> driver.byId(queueId).inFlight());
  }

  /** The flags of every encode of an executable on the queue, oldest first. */
  public List<Integer> encodeFlags(long queueId) {
    return driver.act(() -> List.copyOf(driver.byId(queueId).encodeFlags));
  }

  /** The flags of every commit on the queue, oldest first. */
  public List<Integer> commitFlags(long queueId) {
    return driver.act(() -> List.copyOf(driver.byId(queueId).commitFlags));
  }

  /** Whether a command buffer is open. */
  public boolean open(long queueId) {
    return driver.act(() -> driver.byId(queueId).open != null);
  }

  /** Live buffers. */
  public int buffers() {
    return driver.act(driver::liveBuffers);
  }

  /** Live executables. */
  public int executables() {
    return driver.act(driver::liveExecutables);
  }

  /** Whether the driver was closed. */
  public boolean closed() {
    return driver.act(driver::isClosed);
  }

  /** The rules that were broken, oldest first. */
  public List<Violation> violations() {
    return driver.violations();
  }

  /** Waits until other threads have committed the value. */
  public void awaitCommitted(long queueId, long value) throws InterruptedException {
    driver.awaitState(
        () -> driver.queueIds().contains(queueId) && driver.byId(queueId).committed >= value);
  }

  private void change(Runnable change) {
    driver.act(
        () -> {
          change.run();
          return true;
        });
  }
}
