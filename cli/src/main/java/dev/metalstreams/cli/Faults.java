package dev.metalstreams.cli;

import dev.metalstreams.DeviceStream;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.CompletionSink;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.driver.Status;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Collections;
import java.util.Map;
import java.util.Objects;
import java.util.ServiceLoader;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * A driver between the library and the device that fails at random, and the account of who saw it.
 *
 * <p>Two things fail. A call is refused, without having any effect. A command buffer fails on the
 * device: its work is dropped, and so is that of command buffers which wait for it, as the contract
 * of {@link Driver} has it. So a result that is accepted all the same is a wrong one, and is found.
 *
 * <p>Every failure has a number, which its message carries. Whoever catches an exception tells
 * here; in the end each failure was seen by somebody, or the library made up for it by itself.
 *
 * <p>Thread-safe. Of a queue, what the driver's callers serialise is serialised here.
 */
final class Faults implements DriverProvider {
  private static final int CALLS_PER_REFUSAL = 150;
  private static final int COMMITS_PER_FAILURE = 40;

  /** What can be refused. Ends are not: nobody would end the object again. */
  private static final Set<String> REFUSABLE =
      Set.of(
          "memory",
          "createQueue",
          "createBuffer",
          "begin",
          "commit",
          "discard",
          "encodeWait",
          "encodeFill",
          "encodeCopy",
          "encodeExecutable",
          "awaitValue",
          "resetQueue",
          "nextCompletions");

  private static final Pattern NUMBER = Pattern.compile("on purpose \\(#(\\d+)\\)");

  /** Who saw a failure. */
  private enum Seen {
    BY_NOBODY,
    BY_A_JOB,
    BY_A_SYNCHRONIZE
  }

  /** What is known of a queue. */
  private static final class Queue {
    final long id;
    final Map<Long, CompletionFailure> failing = new ConcurrentHashMap<>();

    /** The first that fails since the last reset, and why. */
    volatile long failed;

    volatile @Nullable CompletionFailure first;

    /** The open command buffer waits for one that fails. */
    @Nullable CompletionFailure inherited;

    Queue(long id) {
      this.id = id;
    }
  }

  private final SplittableRandom random;
  private final Map<Long, Queue> byHandle = new ConcurrentHashMap<>();
  private final Map<Long, Queue> byId = new ConcurrentHashMap<>();
  private final Map<Integer, Seen> seen = new ConcurrentSkipListMap<>();
  private final Map<String, Integer> refusals = new TreeMap<>();
  private int commandBuffers;
  private volatile boolean armed;

  Faults(long seed) {
    this.random = new SplittableRandom(seed);
  }

  /** From now on things fail, or no longer do. */
  void arm(boolean fail) {
    armed = fail;
  }

  @Override
  public Driver open(DriverOptions options) {
    Driver real =
        ServiceLoader.load(DriverProvider.class, DriverProvider.class.getClassLoader())
            .findFirst()
            .orElseThrow(() -> new DriverException(Status.NO_DEVICE, "no driver found"))
            .open(options);
    return (Driver)
        Proxy.newProxyInstance(
            Driver.class.getClassLoader(),
            new Class<?>[] {Driver.class},
            (proxy, method, arguments) ->
                call(real, method, arguments == null ? new Object[0] : arguments));
  }

  private @Nullable Object call(Driver real, Method method, Object[] arguments) throws Throwable {
    String name = method.getName();
    if (armed && REFUSABLE.contains(name) && draw(CALLS_PER_REFUSAL)) {
      throw new DriverException(Status.INTERNAL, "refused " + number(name));
    }
    switch (name) {
      case "failedValue" -> {
        long failed = queue(arguments[0]).failed;
        return failed != 0 ? failed : forward(real, method, arguments);
      }
      case "nextCompletions" -> arguments[0] = telling((CompletionSink) arguments[0]);
      case "commit" -> {
        if (fails(queue(arguments[0]), (long) arguments[1])) {
          real.discard((long) arguments[0], (long) arguments[1]);
          real.begin((long) arguments[0], (long) arguments[1]);
        }
      }
      default -> {}
    }
    Object result = forward(real, method, arguments);
    switch (name) {
      case "createQueue" -> {
        Queue made = new Queue((long) arguments[0]);
        byHandle.put((long) Objects.requireNonNull(result), made);
        byId.put(made.id, made);
      }
      case "encodeWait" -> {
        Queue awaited = queue(arguments[2]);
        CompletionFailure first = awaited.first;
        if (first != null && awaited.failed <= (long) arguments[3]) {
          queue(arguments[0]).inherited = first;
        }
      }
      case "discard" -> queue(arguments[0]).inherited = null;
      case "resetQueue" -> {
        Queue reset = queue(arguments[0]);
        reset.failed = 0;
        reset.first = null;
      }
      default -> {}
    }
    return result;
  }

  private static @Nullable Object forward(Driver real, Method method, Object[] arguments)
      throws Throwable {
    try {
      return method.invoke(real, arguments);
    } catch (InvocationTargetException e) {
      throw Objects.requireNonNull(e.getCause());
    }
  }

  private Queue queue(Object handle) {
    return Objects.requireNonNull(byHandle.get((long) handle), "no queue");
  }

  private synchronized boolean draw(int oneOf) {
    return random.nextInt(oneOf) == 0;
  }

  /** A new failure, as messages name it. */
  private synchronized String number(String what) {
    int number = seen.size() + 1;
    seen.put(number, Seen.BY_NOBODY);
    if (what.isEmpty()) {
      commandBuffers++;
    } else {
      refusals.merge(what, 1, Integer::sum);
    }
    return "on purpose (#" + number + ")";
  }

  /** Whether a command buffer that is about to be committed fails; before it can be seen done. */
  private boolean fails(Queue queue, long value) {
    CompletionFailure inherited = queue.inherited;
    queue.inherited = null;
    CompletionFailure failure;
    if (inherited != null) {
      failure =
          new CompletionFailure(
              Status.DEPENDENCY,
              "not executed: " + inherited.message(),
              inherited.causeQueueId(),
              inherited.causeValue());
    } else if (armed && draw(COMMITS_PER_FAILURE)) {
      failure = new CompletionFailure(Status.EXECUTION, "failed " + number(""), queue.id, value);
    } else {
      return false;
    }
    queue.failing.put(value, failure);
    if (queue.failed == 0) {
      queue.first = failure;
      queue.failed = value;
    }
    return true;
  }

  private CompletionSink telling(CompletionSink sink) {
    return (queueId, value, start, end, failure) -> {
      Queue queue = byId.get(queueId);
      CompletionFailure ours = queue == null ? null : queue.failing.remove(value);
      sink.completed(queueId, value, start, end, ours != null ? ours : failure);
    };
  }

  // ---- the account

  /** Whether an exception comes of a failure that was made here; notes that a job saw it. */
  boolean explains(Throwable caught) {
    return note(caught, Seen.BY_A_JOB);
  }

  /** The same, of a thread that synchronizes the device. */
  boolean explainsSynchronize(Throwable caught) {
    return note(caught, Seen.BY_A_SYNCHRONIZE);
  }

  private boolean note(Throwable caught, Seen by) {
    boolean ours = false;
    for (Throwable each = caught; each != null; each = each.getCause()) {
      Matcher matcher = NUMBER.matcher(String.valueOf(each.getMessage()));
      while (matcher.find()) {
        ours = true;
        seen.merge(
            Integer.valueOf(matcher.group(1)),
            by,
            (before, now) -> before == Seen.BY_A_JOB ? before : now);
      }
    }
    for (Throwable suppressed : caught.getSuppressed()) {
      note(suppressed, by);
    }
    return ours;
  }

  /**
   * Ends the work of a stream, and makes it take work again, whatever is refused meanwhile. Nobody
   * else uses it.
   */
  void recover(DeviceStream stream) {
    boolean sound = false;
    while (!sound) {
      try {
        stream.synchronize();
        sound = true;
      } catch (RuntimeException e) {
        rethrowUnlessExplained(e);
        try {
          stream.reset();
        } catch (RuntimeException again) {
          rethrowUnlessExplained(again);
        }
      }
    }
  }

  private void rethrowUnlessExplained(RuntimeException e) {
    if (!explains(e)) {
      throw e;
    }
  }

  /** What failed and who saw it, at a moment when nothing runs. */
  synchronized Account account() {
    return new Account(
        Map.copyOf(refusals),
        commandBuffers,
        seen(Seen.BY_A_JOB),
        seen(Seen.BY_A_SYNCHRONIZE),
        seen(Seen.BY_NOBODY));
  }

  private int seen(Seen by) {
    return Collections.frequency(seen.values(), by);
  }

  /**
   * The account of a run's failures.
   *
   * @param refusals calls that were refused, by method
   * @param commandBuffers command buffers that failed
   * @param seenByJobs failures that a job saw
   * @param seenBySynchronizes failures that only a synchronize of the device saw
   * @param absorbed failures that the library made up for
   */
  record Account(
      Map<String, Integer> refusals,
      int commandBuffers,
      int seenByJobs,
      int seenBySynchronizes,
      int absorbed) {

    int refused() {
      return refusals.values().stream().mapToInt(Integer::intValue).sum();
    }

    int injected() {
      return refused() + commandBuffers;
    }
  }
}
