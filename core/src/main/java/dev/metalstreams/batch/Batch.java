package dev.metalstreams.batch;

import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * The requests that are served together. Used by the function that serves them, until its stage
 * ends.
 *
 * @param <I> a request
 */
public final class Batch<I> {
  private final List<I> inputs;
  private final @Nullable Throwable[] failures;

  Batch(List<I> inputs) {
    this.inputs = List.copyOf(inputs);
    this.failures = new Throwable[inputs.size()];
  }

  /** The requests, at least one. */
  public List<I> inputs() {
    return inputs;
  }

  /**
   * Fails one request and no other.
   *
   * @throws IndexOutOfBoundsException if there is no such request
   */
  public void fail(int index, Throwable why) {
    failures[Objects.checkIndex(index, failures.length)] = Objects.requireNonNull(why, "why");
  }

  @Nullable Throwable failure(int index) {
    return failures[index];
  }
}
