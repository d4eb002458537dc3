package dev.metalstreams.batch;

import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/** What has become of requests; fails if they do not end. */
final class Outcomes {
  private Outcomes() {}

  static int get(CompletableFuture<Integer> future) throws Exception {
    return future.get(30, TimeUnit.SECONDS);
  }

  static Throwable failureOf(CompletableFuture<?> future) throws Exception {
    try {
      future.get(30, TimeUnit.SECONDS);
      throw new AssertionError("it succeeded");
    } catch (ExecutionException e) {
      return Objects.requireNonNull(e.getCause());
    }
  }
}
