package dev.metalstreams.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.driver.Arguments;
import dev.metalstreams.driver.CompletionFailure;
import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.ElementType;
import dev.metalstreams.driver.GraphSpec;
import dev.metalstreams.driver.NodeSpec;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.LongConsumer;
import org.jspecify.annotations.Nullable;

/**
 * An open device and what a test needs to say in one line. Used by one thread, but for its queues.
 */
final class Rig {
  private static final long A_SECOND = TimeUnit.SECONDS.toNanos(1);

  /** A completion as it came. */
  record Completion(
      long queueId,
      long value,
      long startNanos,
      long endNanos,
      @Nullable CompletionFailure failure) {}

  final Driver driver;
  final List<Completion> completions = new ArrayList<>();
  private long ids;

  Rig(Driver driver) {
    this.driver = driver;
  }

  /** A queue and the values that were committed on it. Used by one thread at a time. */
  final class Queue {
    final long id;
    final long handle;
    long committed;

    private Queue(long id, long handle) {
      this.id = id;
      this.handle = handle;
    }

    /** Opens the next command buffer. */
    long begin() {
      driver.begin(handle, committed + 1);
      return committed + 1;
    }

    long commit() {
      return commit(Driver.COMMIT_DEFAULT);
    }

    long commit(int flags) {
      driver.commit(handle, committed + 1, flags);
      return ++committed;
    }

    /** One command buffer. */
    long submit(LongConsumer encode) {
      encode.accept(begin());
      return commit();
    }

    long submitEmpty() {
      return submit(value -> {});
    }

    long submitFill(long buffer, long offset, long length, int fill) {
      return submit(value -> driver.encodeFill(handle, value, buffer, offset, length, (byte) fill));
    }

    void encodeWait(long value, Queue awaited, long awaitedValue) {
      driver.encodeWait(handle, value, awaited.handle, awaitedValue);
    }

    long completed() {
      return driver.completedValue(handle);
    }

    long failed() {
      return driver.failedValue(handle);
    }

    /** Waits until all that was committed is completed. */
    void finish() {
      finish(committed);
    }

    void finish(long value) {
      while (completed() < value) {
        drain(A_SECOND);
      }
      drain(0);
    }
  }

  Queue queue() {
    return queue(driver.info().maxInFlight());
  }

  Queue queue(int maxInFlight) {
    long id = ++ids;
    return new Queue(id, driver.createQueue(id, "queue " + id, maxInFlight));
  }

  /** Takes the completions that are there, or the first that come in time. */
  int drain(long timeoutNanos) {
    return driver.nextCompletions(
        (queueId, value, start, end, failure) ->
            completions.add(new Completion(queueId, value, start, end, failure)),
        timeoutNanos);
  }

  List<Completion> completionsOf(Queue queue) {
    return completions.stream().filter(completion -> completion.queueId == queue.id).toList();
  }

  Completion completion(Queue queue, long value) {
    List<Completion> found =
        completionsOf(queue).stream().filter(completion -> completion.value == value).toList();
    assertThat(found).as("completions of value " + value).hasSize(1);
    return found.getFirst();
  }

  /** Why the value failed. */
  CompletionFailure failure(Queue queue, long value) {
    CompletionFailure failure = completion(queue, value).failure;
    if (failure == null) {
      throw new AssertionError("value " + value + " of queue " + queue.id + " succeeded");
    }
    return failure;
  }

  // ---- memory

  /** A buffer whose every byte is {@code content}. */
  long buffer(int bytes, int content) {
    long buffer = driver.createBuffer(bytes);
    ByteBuffer view = driver.contents(buffer, 0, bytes);
    for (int i = 0; i < bytes; i++) {
      view.put(i, (byte) content);
    }
    return buffer;
  }

  byte[] bytes(long buffer, int length) {
    byte[] bytes = new byte[length];
    driver.contents(buffer, 0, length).get(0, bytes);
    return bytes;
  }

  long floats(float... values) {
    long buffer = driver.createBuffer(4L * values.length);
    driver.contents(buffer, 0, 4 * values.length).asFloatBuffer().put(values);
    return buffer;
  }

  long halves(float... values) {
    long buffer = driver.createBuffer(2L * values.length);
    ByteBuffer view = driver.contents(buffer, 0, 2 * values.length);
    for (int i = 0; i < values.length; i++) {
      view.putShort(2 * i, Float.floatToFloat16(values[i]));
    }
    return buffer;
  }

  float[] readFloats(long buffer, int count) {
    float[] values = new float[count];
    FloatBuffer view = driver.contents(buffer, 0, 4 * count).asFloatBuffer();
    view.get(values);
    return values;
  }

  Arguments arguments(long... buffers) {
    Arguments arguments = driver.newArguments(buffers.length);
    for (int i = 0; i < buffers.length; i++) {
      arguments.set(i, buffers[i]);
    }
    return arguments;
  }

  /** Runs a graph with one output of {@code count} floats on a queue of its own. */
  float[] run(GraphSpec graph, int count, float[]... inputs) {
    Queue queue = queue();
    long[] buffers = new long[inputs.length + 1];
    List<ElementType> types =
        graph.nodes().stream()
            .filter(NodeSpec.Input.class::isInstance)
            .map(node -> ((NodeSpec.Input) node).type())
            .toList();
    for (int i = 0; i < inputs.length; i++) {
      buffers[i] = types.get(i) == ElementType.F16 ? halves(inputs[i]) : floats(inputs[i]);
    }
    buffers[inputs.length] = driver.createBuffer(4L * count);
    long executable = driver.compile(graph);
    queue.submit(
        value ->
            driver.encodeExecutable(
                queue.handle, value, executable, arguments(buffers), buffers.length));
    queue.finish();
    assertThat(queue.failed()).isZero();
    float[] result = readFloats(buffers[inputs.length], count);
    driver.destroyExecutable(executable);
    for (long buffer : buffers) {
      driver.destroyBuffer(buffer);
    }
    driver.destroyQueue(queue.handle);
    return result;
  }
}
