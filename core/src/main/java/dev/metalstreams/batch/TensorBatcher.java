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
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Consumer;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/**
 * Runs rows from many threads through one compiled graph, together.
 *
 * <p>A request has one or more rows. Rows are put together on the device, the executable of the
 * nearest compiled batch size (a <em>bucket</em>) runs once, and each request gets its rows of the
 * output. The memory for that is kept from batch to batch, as much as batches were under way at the
 * same time; rows from the CPU are written straight into it. Rows that fill a bucket up are zero,
 * and their output is dropped; so a row's result must not depend on other rows. What waits and just
 * exceeds a bucket is cut to it, and the last few, an eighth at most, go with the next batch.
 *
 * <p><b>Threads.</b> All methods may be called from any thread. For when a batch is served, for
 * deadlines, overload and the close, see {@link BatchQueue}.
 */
public final class TensorBatcher implements AutoCloseable {

  /** What a request brings: values, or a tensor that is written once it is ready. */
  private static final class Rows {
    final int count;
    final float @Nullable [] values;
    final @Nullable Tensor tensor;
    final @Nullable DeviceEvent ready;

    Rows(int count, float[] values) {
      this.count = count;
      this.values = values;
      this.tensor = null;
      this.ready = null;
    }

    Rows(int count, Tensor tensor, DeviceEvent ready) {
      this.count = count;
      this.values = null;
      this.tensor = tensor;
      this.ready = ready;
    }
  }

  /**
   * Memory for one batch of a bucket, seen by the CPU as well. It goes from batch to batch, and is
   * out of {@link #spare} from before the CPU writes the rows until after it has read the results:
   * so no work on the device uses it when the next batch gets it.
   */
  private final class Slab {
    final int rows;
    final Executable executable;
    final Tensor x;
    final Tensor y;
    final FloatBuffer in;
    final FloatBuffer out;

    /** What is to be closed, the latest first. */
    private final Deque<Runnable> opened = new ArrayDeque<>(4);

    Slab(int rows, Executable executable) {
      this.rows = rows;
      this.executable = executable;
      try {
        x = memory(withFirst(rows, rowShape));
        y = memory(withFirst(rows, resultShape));
        in = view(x);
        out = view(y);
      } catch (RuntimeException e) {
        close();
        throw e;
      }
    }

    private Tensor memory(long[] shape) {
      Tensor tensor = device.empty(DType.F32, shape);
      opened.push(tensor::close);
      return tensor;
    }

    /** For good: this class orders what CPU and device do. */
    private FloatBuffer view(Tensor tensor) {
      tensor.buffer().map().close(); // waits for what the memory's last tenant has left under way
      HostView view = tensor.buffer().mapUnsafe();
      opened.push(view::close);
      return view.bytes().asFloatBuffer();
    }

    void close() {
      opened.forEach(Runnable::run);
    }
  }

  private final Device device;
  private final Tensor[] weights;
  private final NavigableMap<Integer, Executable> buckets;
  private final long[] rowShape;
  private final long[] resultShape;
  private final int rowElements;
  private final int resultElements;
  private final Map<Integer, Deque<Slab>> spare = new HashMap<>();
  private volatile boolean closed;
  private final BatchQueue<Rows, Object> queue;

  private TensorBatcher(Builder builder, NavigableMap<Integer, Executable> buckets) {
    this.device = builder.device;
    this.weights = builder.weights.clone();
    this.buckets = buckets;
    Graph any = buckets.firstEntry().getValue().graph();
    this.rowShape = withoutFirst(any.inputs().get(0).shape());
    this.resultShape = withoutFirst(any.outputs().get(0).shape());
    this.rowElements = Math.toIntExact(elements(rowShape));
    this.resultElements = Math.toIntExact(elements(resultShape));
    buckets.keySet().forEach(size -> spare.put(size, new ConcurrentLinkedDeque<>()));
    Launcher<Rows, Object> function = this::launch;
    BatchQueue.Builder<Rows, Object> queueBuilder =
        BatchQueue.<Rows, Object>builder(function)
            .device(device)
            .maxBatch(buckets.lastKey())
            .name("metalstreams-tensor-batch");
    builder.options.accept(queueBuilder);
    this.queue =
        queueBuilder
            .weigher(rows -> rows.count, buckets.lastKey())
            .fit(this::fit)
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

  private static long elements(long[] shape) {
    long elements = 1;
    for (long extent : shape) {
      elements = Math.multiplyExact(elements, extent);
    }
    return elements;
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
        (CompletableFuture<?>) queue.submit(new Rows(checkCount(count), rows), deadline);
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
        (CompletableFuture<?>) queue.submit(new Rows(count, rows, ready));
  }

  private int checkCount(int count) {
    if (count > buckets.lastKey()) {
      throw new IllegalArgumentException(
          count + " rows; the largest bucket has " + buckets.lastKey());
    }
    return count;
  }

  // ---- serve

  private Launcher.Flight<Object> launch(Batch<Rows> batch) {
    int rows = 0;
    for (Rows each : batch.inputs()) {
      rows += each.count;
    }
    Flight flight = new Flight(batch, device.streams().current(), slab(rows));
    try {
      flight.launch();
      return flight;
    } catch (RuntimeException | Error e) {
      flight.abandon();
      throw e;
    }
  }

  /**
   * Rows that just exceed a bucket would be computed with many more that nobody asked for. So the
   * last few, which have waited least, stay for the next batch: if they are fewer than those, and
   * no more than an eighth of the bucket.
   */
  private long fit(long rows) {
    int most = (int) Math.min(rows, buckets.lastKey());
    Integer below = buckets.floorKey(most);
    Integer above = buckets.ceilingKey(most);
    if (below == null || above == null) {
      return most;
    }
    int left = most - below;
    return left < above - most && left <= below / 8 ? below : most;
  }

  private Slab slab(int rows) {
    Map.Entry<Integer, Executable> bucket = Objects.requireNonNull(buckets.ceilingEntry(rows));
    Slab slab = spare(bucket.getKey()).pollLast();
    return slab != null ? slab : new Slab(bucket.getKey(), bucket.getValue());
  }

  private void giveBack(Slab slab) {
    spare(slab.rows).addLast(slab);
    if (closed) { // set before the close looks for spare ones
      closeSpare();
    }
  }

  private void closeSpare() {
    for (Deque<Slab> slabs : spare.values()) {
      for (Slab slab = slabs.poll(); slab != null; slab = slabs.poll()) {
        slab.close();
      }
    }
  }

  private Deque<Slab> spare(int rows) {
    return Objects.requireNonNull(spare.get(rows));
  }

  /** A batch on the device. */
  private final class Flight implements Launcher.Flight<Object> {
    private final Batch<Rows> batch;
    private final DeviceStream stream;
    private final Slab slab;

    /** The results of requests that are tensors, at the requests' places. */
    private final @Nullable Tensor[] parts;

    private @Nullable DeviceEvent done;

    Flight(Batch<Rows> batch, DeviceStream stream, Slab slab) {
      this.batch = batch;
      this.stream = stream;
      this.slab = slab;
      this.parts = new Tensor[batch.inputs().size()];
    }

    void launch() {
      gather();
      List<Tensor> inputs = new ArrayList<>(1 + weights.length);
      inputs.add(slab.x);
      Collections.addAll(inputs, weights);
      slab.executable.runInto(stream, inputs, List.of(slab.y));
      long row = 0;
      for (int i = 0; i < parts.length; i++) {
        Rows each = batch.inputs().get(i);
        if (each.tensor != null) {
          parts[i] = part(row, each.count);
        }
        row += each.count;
      }
      done = stream.record();
    }

    /** Puts the rows together; a request whose tensor is closed fails alone. */
    private void gather() {
      int row = 0;
      for (int i = 0; i < parts.length; i++) {
        Rows each = batch.inputs().get(i);
        if (each.values != null) {
          slab.in.put(row * rowElements, each.values, 0, each.count * rowElements);
        } else {
          copy(i, each, row);
        }
        row += each.count;
      }
      for (int at = row * rowElements; at < slab.rows * rowElements; at++) {
        slab.in.put(at, 0);
      }
    }

    private void copy(int request, Rows rows, int row) {
      Tensor tensor = Objects.requireNonNull(rows.tensor);
      long bytes = (long) rowElements * DType.F32.bytes();
      try {
        stream.waitFor(Objects.requireNonNull(rows.ready));
        stream.copy(tensor.buffer(), 0, slab.x.buffer(), row * bytes, rows.count * bytes);
      } catch (IllegalStateException | MetalStreamsException e) {
        if (stream.failure().isPresent()) {
          throw e; // not this request's fault
        }
        batch.fail(request, e);
        for (int i = 0; i < rows.count * rowElements; i++) {
          slab.in.put(row * rowElements + i, 0);
        }
      }
    }

    private Tensor part(long row, int count) {
      Tensor part = device.empty(DType.F32, withFirst(count, resultShape));
      try {
        long bytes = (long) resultElements * DType.F32.bytes();
        stream.copy(slab.y.buffer(), row * bytes, part.buffer(), 0, count * bytes);
        return part;
      } catch (RuntimeException e) {
        part.close();
        throw e;
      }
    }

    @Override
    public void flush() {
      stream.flush();
    }

    @Override
    public void await() {
      Objects.requireNonNull(done).await();
    }

    @Override
    public List<@Nullable Object> results() {
      List<@Nullable Object> results = new ArrayList<>(parts.length);
      int row = 0;
      for (int i = 0; i < parts.length; i++) {
        Rows each = batch.inputs().get(i);
        if (each.tensor == null) {
          float[] values = new float[each.count * resultElements];
          slab.out.get(row * resultElements, values);
          results.add(values);
        } else if (batch.failure(i) == null) {
          results.add(parts[i]);
        } else {
          closeIfAny(parts[i]);
          results.add(null);
        }
        row += each.count;
      }
      giveBack(slab);
      return results;
    }

    @Override
    public void abandon() {
      slab.close(); // not spare: the device may still use it
      for (Tensor part : parts) {
        closeIfAny(part);
      }
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
    closed = true;
    closeSpare();
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
        if (node.type() != DType.F32) {
          throw new IllegalArgumentException(node + " is not F32");
        }
        if (elements(node.shape()) > Integer.MAX_VALUE / DType.F32.bytes()) {
          throw new IllegalArgumentException(node + " is too large to be mapped as a whole");
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
