package dev.metalstreams.batch;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import org.jetbrains.lincheck.Lincheck;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * A submission meets the close, in many interleavings chosen by a model checker: a request that was
 * accepted has an outcome once both are over. The twin looks whether the queue is closed and puts
 * the request in afterwards, as two steps; which only some interleavings betray.
 */
@Timeout(120)
class BatchInterleavingTest {
  /** How many interleavings are explored; the twin is caught within far fewer. */
  private static final int INVOCATIONS = 200;

  /** What threads share: the model checker follows what a static field leads to. */
  @SuppressWarnings("UnusedVariable") // followed, not read
  private static volatile @Nullable BatchQueue<Integer, Integer> queue;

  /** Checks, and then pushes. */
  private static final class ChecksThenPushes extends BatchQueue<Integer, Integer> {
    ChecksThenPushes(Builder<Integer, Integer> builder) {
      super(builder);
    }

    private boolean isClosing() {
      lock().lock();
      try {
        return closing();
      } finally {
        lock().unlock();
      }
    }

    @Override
    @Nullable Taken<Integer, Integer> enter(Request<Integer, Integer> request) {
      if (isClosing()) {
        throw new RejectedExecutionException("closed");
      }
      lock().lock();
      try {
        push(request);
      } finally {
        lock().unlock();
      }
      return null;
    }
  }

  private static BatchQueue.Builder<Integer, Integer> builder() {
    return BatchQueue.<Integer, Integer>builder(BatchFunction.of(List::copyOf))
        .completer(Runnable::run)
        .clock(() -> 0);
  }

  /** One thread submits; the other closes, and does what the last worker does then. */
  private static void submitMeetsClose(BatchQueue<Integer, Integer> made) {
    queue = made;
    Thread closer =
        new Thread(
            () -> {
              made.shut();
              for (BatchQueue.Taken<Integer, Integer> taken = made.collect(false);
                  taken != null;
                  taken = made.collect(false)) {
                taken.requests.forEach(request -> request.succeed(request.input));
              }
            });
    closer.start();
    CompletableFuture<Integer> accepted = null;
    try {
      accepted = made.submit(1);
    } catch (RejectedExecutionException e) {
      // Its submitter knows.
    }
    try {
      closer.join();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
    if (accepted != null && !accepted.isDone()) {
      throw new AssertionError("a request was lost");
    }
  }

  @AfterEach
  void shareNothing() {
    queue = null;
  }

  @Test
  void noRequestIsLostBetweenSubmitAndClose() {
    Lincheck.runConcurrentTest(INVOCATIONS, () -> submitMeetsClose(new BatchQueue<>(builder())));
  }

  @Test
  void aQueueThatChecksAndThenPushesLosesOne() {
    assertThatThrownBy(
            () ->
                Lincheck.runConcurrentTest(
                    INVOCATIONS, () -> submitMeetsClose(new ChecksThenPushes(builder()))))
        .hasMessageContaining("a request was lost");
  }
}
