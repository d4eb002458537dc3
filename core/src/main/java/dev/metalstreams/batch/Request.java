package dev.metalstreams.batch;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.jspecify.annotations.Nullable;

/**
 * A request in a {@link BatchQueue}, and the future that its submitter holds.
 *
 * <p>Invariant: a request leaves {@code OPEN} exactly once, by whoever succeeds in {@link #end};
 * only he completes the future and counts the outcome. So each accepted request has exactly one
 * outcome, whatever meets: a result, a failure, a cancellation, a deadline and a close.
 */
final class Request<I, O> extends CompletableFuture<O> {

  /** How a request can end. */
  enum Outcome {
    OPEN,
    SUCCEEDED,
    FAILED,
    CANCELLED,
    EXPIRED,
    ABANDONED
  }

  /** Tells requests of one deadline apart; 0 without a deadline. */
  final long number;

  final I input;
  final long weight;
  final int priority;
  final long submitted;

  /** On the queue's clock; {@link Long#MAX_VALUE} for none. */
  final long deadline;

  // Of the line, under the queue's lock: where the request waits, and between whom.
  @Nullable Object lane;
  @Nullable Request<I, O> ahead;
  @Nullable Request<I, O> behind;

  private static final VarHandle OUTCOME;

  static {
    try {
      OUTCOME = MethodHandles.lookup().findVarHandle(Request.class, "outcome", Outcome.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  private final BatchQueue<I, O> queue;
  private volatile Outcome outcome = Outcome.OPEN;

  Request(
      BatchQueue<I, O> queue,
      long number,
      I input,
      long weight,
      int priority,
      long submitted,
      long deadline) {
    this.queue = queue;
    this.number = number;
    this.input = input;
    this.weight = weight;
    this.priority = priority;
    this.submitted = submitted;
    this.deadline = deadline;
  }

  boolean isOpen() {
    return outcome == Outcome.OPEN;
  }

  /** Takes the right to complete the future; false if somebody else has it. */
  boolean end(Outcome how) {
    if (OUTCOME.compareAndSet(this, Outcome.OPEN, how)) {
      queue.count(how);
      return true;
    }
    return false;
  }

  /** False if the request has ended otherwise: then nobody takes the result. */
  boolean succeed(O result) {
    return end(Outcome.SUCCEEDED) && super.complete(result);
  }

  void fail(Outcome how, Throwable why) {
    if (end(how)) {
      super.completeExceptionally(
          why instanceof CompletionException && why.getCause() != null ? why.getCause() : why);
    }
  }

  // ---- the submitter's side: whatever he ends the future with withdraws the request

  /** Cancels the request. One that is not being served yet gives its place free. */
  @Override
  public boolean cancel(boolean mayInterruptIfRunning) {
    return withdrawn() ? super.cancel(mayInterruptIfRunning) : isCancelled();
  }

  @Override
  public boolean complete(O value) {
    return withdrawn() && super.complete(value);
  }

  /** Also how {@code orTimeout} ends it. */
  @Override
  public boolean completeExceptionally(Throwable why) {
    Objects.requireNonNull(why, "why");
    return withdrawn() && super.completeExceptionally(why);
  }

  private boolean withdrawn() {
    if (!end(Outcome.CANCELLED)) {
      return false;
    }
    queue.withdraw(this);
    return true;
  }

  /** What a user derives from this future is an ordinary one. */
  @Override
  public <U> CompletableFuture<U> newIncompleteFuture() {
    return new CompletableFuture<>();
  }
}
