package dev.metalstreams.batch;

import dev.metalstreams.DType;
import dev.metalstreams.Device;
import dev.metalstreams.DeviceEvent;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.Executable;
import dev.metalstreams.Graph;
import dev.metalstreams.HostView;
import dev.metalstreams.MetalStreamsException;
import dev.metalstreams.Node;
import dev.metalstreams.Tensor;
import java.nio.FloatBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Consumer;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/**
 * Runs rows from many threads through one compiled graph, together.
 *
 * <p>A request has one or more rows. Rows are put together on the device, the executable of the
 * nearest compiled batch size (a <em>bucket</em>) runs once, and each request gets its rows of the
 * output. Rows that fill a bucket up are zero, and their output is dropped; so a row's result must
 * not depend on other rows.
 *
 * <p><b>Threads.</b> All methods may be called from any thread. For when a batch is served, for
 * deadlines, overload and the close, see {@link BatchQueue}.
 */
public final class TensorBatcher implements AutoCloseable {

  /** What a request brings; exactly one of the two. */
  private record Rows(
      int count,
      @Nullable FloatBuffer values,
      @Nullable Tensor tensor,
      @Nullable DeviceEvent ready) {}

  private final Device device;
  private final Tensor[] weights;
  private final NavigableMap<Integer, Executable> buckets;
  private final long[] rowShape;
  private final long[] resultShape;
  private final int rowElements;
  private final int resultElements;
  private final BatchQueue<Rows, Object> queue;

  private TensorBatcher(Builder builder, NavigableMap<Integer, Executable> buckets) {
    this.device = builder.device;
    this.weights = builder.weights.clone();
    this.buckets = buckets;
    Graph any = buckets.firstEntry().getValue().graph();
    this.rowShape = withoutFirst(any.inputs().get(0).shape());
    this.resultShape = withoutFirst(any.outputs().get(0).shape());
    this.rowElements = elements(rowShape);
    this.resultElements = elements(resultShape);
    BatchQueue.Builder<Rows, Object> queueBuilder =
        BatchQueue.<Rows, Object>builder(this::serve)
            .device(device)
            .maxBatch(buckets.lastKey())
            .name("metalstreams-tensor-batch");
    builder.options.accept(queueBuilder);
    this.queue =
        queueBuilder
            .weigher(Rows::count, buckets.lastKey())
            .discard(result -> closeIfAny(result instanceof Tensor tensor ? tensor : null))
            .build();
  }

  /**
   * Starts to describe a batcher.
   *
   * @param graph gives the graph for a batch size: its first input and its only output have the
   *     batch size as the first extent, further inputs are the weights
   */
  public static Builder builder(Device device, IntFunction<Graph> graph) {
    return new Builder(device, graph);
  }

  private static long[] withoutFirst(long[] shape) {
    return Arrays.copyOfRange(shape, 1, shape.length);
  }

  private static int elements(long[] shape) {
    long elements = 1;
    for (long extent : shape) {
      elements = Math.multiplyExact(elements, extent);
    }
    return Math.toIntExact(elements);
  }

  private static long[] withFirst(long first, long[] shape) {
    long[] whole = new long[shape.length + 1];
    whole[0] = first;
    System.arraycopy(shape, 0, whole, 1, shape.length);
    return whole;
  }

  // ---- submit

  /**
   * Takes in rows from the CPU; the array is not copied, and not to be changed before the future
   * ends.
   *
   * @throws IllegalArgumentException if it is not one or more whole rows, or more than the largest
   *     bucket
   * @throws RejectedExecutionException as {@link BatchQueue#submit}
   */
  public CompletableFuture<float[]> submit(float[] rows) {
    return submit(rows, Duration.ofNanos(Long.MAX_VALUE));
  }

  /** Takes in rows from the CPU that fail unless they are being served within a time. */
  @SuppressWarnings("unchecked") // serve gives float[] for such requests
  public CompletableFuture<float[]> submit(float[] rows, Duration deadline) {
    int count = Objects.requireNonNull(rows, "rows").length / rowElements;
    if (count == 0 || rows.length != (long) count * rowElements) {
      throw new IllegalArgumentException(
          rows.length + " values are not one or more rows of " + rowElements);
    }
    return (CompletableFuture<float[]>)
        (CompletableFuture<?>)
            queue.submit(new Rows(checkCount(count), FloatBuffer.wrap(rows), null, null), deadline);
  }

  /**
   * Takes in rows on the device: a tensor whose first extent counts rows. Work that writes it on
   * the caller's current stream is waited for, on the device; the tensor is not to be closed before
   * the future ends. The result is the caller's to close.
   *
   * @throws IllegalArgumentException if its shape does not fit, or it has more rows than the
   *     largest bucket
   * @throws RejectedExecutionException as {@link BatchQueue#submit}
   */
  @SuppressWarnings("unchecked") // serve gives a Tensor for such requests
  public CompletableFuture<Tensor> submit(Tensor rows) {
    long[] shape = Objects.requireNonNull(rows, "rows").shape();
    if (shape.length == 0
        || rows.type() != DType.F32
        || !Arrays.equals(withoutFirst(shape), rowShape)
        || rows.buffer().device() != device) {
      throw new IllegalArgumentException(
          rows + " is not rows of shape " + Arrays.toString(rowShape) + " on this device");
    }
    int count = checkCount((int) Math.min(shape[0], Integer.MAX_VALUE));
    DeviceEvent ready = device.streams().current().record();
    return (CompletableFuture<Tensor>)
        (CompletableFuture<?>) queue.submit(new Rows(count, null, rows, ready));
  }

  private int checkCount(int count) {
    if (count > buckets.lastKey()) {
      throw new IllegalArgumentException(
          count + " rows; the largest bucket has " + buckets.lastKey());
    }
    return count;
  }

  // ---- serve

  private CompletionStage<List<@Nullable Object>> serve(Batch<Rows> batch) {
    DeviceStream stream = device.streams().current();
    List<Rows> all = batch.inputs();
    int rows = all.stream().mapToInt(Rows::count).sum();
    Map.Entry<Integer, Executable> bucket = Objects.requireNonNull(buckets.ceilingEntry(rows));
    List<@Nullable Tensor> parts = new ArrayList<>(all.size());
    Tensor result;
    try (Tensor x = gather(batch, bucket.getKey(), stream)) {
      Tensor[] inputs = new Tensor[1 + weights.length];
      inputs[0] = x;
      System.arraycopy(weights, 0, inputs, 1, weights.length);
      result = bucket.getValue().run(stream, inputs);
    }
    try {
      long at = 0;
      for (Rows each : all) {
        parts.add(each.tensor == null ? null : part(result, at, each.count, stream));
        at += each.count;
      }
      return stream
          .record()
          .toFuture()
          .handle((done, failure) -> scatter(batch, result, parts, failure));
    } catch (RuntimeException e) {
      result.close();
      parts.forEach(TensorBatcher::closeIfAny);
      throw e;
    }
  }

  /** Puts the rows of a batch together; a request whose tensor is closed fails alone. */
  private Tensor gather(Batch<Rows> batch, int bucket, DeviceStream stream) {
    List<Rows> all = batch.inputs();
    float[] staged = new float[bucket * rowElements]; // what the CPU does not bring is zero
    int at = 0;
    for (Rows each : all) {
      if (each.values != null) {
        each.values.duplicate().get(staged, at * rowElements, each.count * rowElements);
      }
      at += each.count;
    }
    Tensor x = device.tensor(staged, withFirst(bucket, rowShape));
    try {
      long row = 0;
      for (int i = 0; i < all.size(); i++) {
        Rows each = all.get(i);
        if (each.tensor != null) {
          try {
            stream.waitFor(Objects.requireNonNull(each.ready));
            long bytes = (long) rowElements * DType.F32.bytes();
            stream.copy(each.tensor.buffer(), 0, x.buffer(), row * bytes, each.count * bytes);
          } catch (IllegalStateException | MetalStreamsException e) {
            if (stream.failure().isPresent()) {
              throw e; // not this request's fault
            }
            batch.fail(i, e);
          }
        }
        row += each.count;
      }
      return x;
    } catch (RuntimeException e) {
      x.close();
      throw e;
    }
  }

  private Tensor part(Tensor result, long row, int count, DeviceStream stream) {
    Tensor part = device.empty(DType.F32, withFirst(count, resultShape));
    try {
      long bytes = (long) resultElements * DType.F32.bytes();
      stream.copy(result.buffer(), row * bytes, part.buffer(), 0, count * bytes);
      return part;
    } catch (RuntimeException e) {
      part.close();
      throw e;
    }
  }

  private List<@Nullable Object> scatter(
      Batch<Rows> batch, Tensor result, List<@Nullable Tensor> parts, @Nullable Throwable failure) {
    try (result) {
      if (failure != null) {
        parts.forEach(TensorBatcher::closeIfAny);
        throw failure instanceof RuntimeException e ? e : new IllegalStateException(failure);
      }
      List<Rows> all = batch.inputs();
      List<@Nullable Object> results = new ArrayList<>(all.size());
      long bytes = (long) resultElements * DType.F32.bytes();
      long row = 0;
      try (HostView view = result.buffer().map()) {
        for (int i = 0; i < all.size(); i++) {
          Rows each = all.get(i);
          if (each.tensor == null) {
            float[] values = new float[each.count * resultElements];
            view.bytes(row * bytes, (int) (each.count * bytes)).asFloatBuffer().get(values);
            results.add(values);
          } else if (batch.failure(i) == null) {
            results.add(parts.get(i));
          } else {
            closeIfAny(parts.get(i));
            results.add(null);
          }
          row += each.count;
        }
      }
      return results;
    }
  }

  private static void closeIfAny(@Nullable Tensor tensor) {
    if (tensor != null) {
      tensor.close();
    }
  }

  /** What the queue has done so far. Sizes and limits of batches count requests. */
  public BatchStats stats() {
    return queue.stats();
  }

  /** Closes the queue, then the executables. The weights are the caller's. Idempotent. */
  @Override
  public void close() {
    queue.close();
    buckets.values().forEach(Executable::close);
  }

  @Override
  public String toString() {
    return "tensor batcher of buckets " + buckets.keySet();
  }

  /** Describes a {@link TensorBatcher}. */
  public static final class Builder {
    private final Device device;
    private final IntFunction<Graph> graph;
    private Tensor[] weights = {};
    private int[] sizes = {1, 2, 4, 8, 16, 32, 64};
    private Consumer<BatchQueue.Builder<?, ?>> options = queue -> {};

    private Builder(Device device, IntFunction<Graph> graph) {
      this.device = Objects.requireNonNull(device, "device");
      this.graph = Objects.requireNonNull(graph, "graph");
    }

    /** The inputs after the first, the same for every batch. They stay the caller's. */
    public Builder weights(Tensor... weights) {
      this.weights = weights.clone();
      return this;
    }

    /**
     * The batch sizes to compile, in rows; 1, 2, 4, … 64 unless set. The largest is the most that a
     * batch can have.
     */
    public Builder buckets(int... sizes) {
      if (sizes.length == 0 || Arrays.stream(sizes).anyMatch(size -> size <= 0)) {
        throw new IllegalArgumentException("buckets are positive: " + Arrays.toString(sizes));
      }
      this.sizes = sizes.clone();
      return this;
    }

    /** Sets delay, capacity, workers and so on of the queue. */
    public Builder queue(Consumer<BatchQueue.Builder<?, ?>> options) {
      this.options = Objects.requireNonNull(options, "options");
      return this;
    }

    /**
     * Compiles all buckets and starts the queue.
     *
     * @throws IllegalArgumentException if a graph does not have the inputs and the output that it
     *     must
     */
    public TensorBatcher build() {
      NavigableMap<Integer, Executable> buckets = new TreeMap<>();
      try {
        for (int size : sizes) {
          Graph described = Objects.requireNonNull(graph.apply(size), "graph");
          check(described, size);
          buckets.putIfAbsent(size, device.compile(described));
        }
        return new TensorBatcher(this, buckets);
      } catch (RuntimeException e) {
        buckets.values().forEach(Executable::close);
        throw e;
      }
    }

    private void check(Graph described, int size) {
      List<Node> inputs = described.inputs();
      if (inputs.size() != 1 + weights.length || described.outputs().size() != 1) {
        throw new IllegalArgumentException(
            described + " has not 1 + " + weights.length + " inputs and one output");
      }
      for (Node node : List.of(inputs.get(0), described.outputs().get(0))) {
        if (node.shape().length == 0 || node.shape()[0] != size) {
          throw new IllegalArgumentException(node + " has not the batch size " + size + " first");
        }
      }
      for (int i = 0; i < weights.length; i++) {
        if (!Arrays.equals(inputs.get(i + 1).shape(), weights[i].shape())) {
          throw new IllegalArgumentException(
              inputs.get(i + 1) + " does not fit weight " + i + ", " + weights[i]);
        }
      }
    }
  }
}
