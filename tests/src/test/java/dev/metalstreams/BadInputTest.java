package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import dev.metalstreams.driver.DriverProvider;
import dev.metalstreams.script.Script;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Every public entry of the core with arguments that are null, closed, of another device, negative,
 * overflowing or mismatched: each throws precisely, and nothing is lost. A method without an entry
 * here fails the test.
 */
@SuppressWarnings("NullAway") // nulls are what is tested
class BadInputTest extends CoreTest {
  private record Case(
      String method, Class<? extends Throwable> expected, String message, ThrowingCallable call) {}

  private final List<Case> cases = new ArrayList<>();

  private final Script script = Script.immediate();
  private final Device device = open(script, builder -> builder.poolSize(4));
  private final DeviceStream stream = device.streams().stream(1);
  private final DeviceBuffer buffer = device.allocate(64, stream);
  private final Graph graph = layer(2, 3, 2);
  private final Executable executable = device.compile(graph);
  private final Tensor x = device.tensor(new float[6], 2, 3);
  private final Tensor w = device.tensor(new float[6], 2, 3);
  private final Tensor b = device.tensor(new float[2], 2);
  private final Tensor y = device.empty(DType.F32, 2, 2);

  private final Device foreign = open(Script.immediate());
  private final DeviceStream foreignStream = foreign.streams().stream(1);
  private final DeviceBuffer foreignBuffer = foreign.allocate(64, foreignStream);
  private final Tensor foreignTensor = foreign.tensor(new float[6], 2, 3);

  private static final Class<NullPointerException> NULL = NullPointerException.class;
  private static final Class<IllegalArgumentException> ARGUMENT = IllegalArgumentException.class;
  private static final Class<IllegalStateException> STATE = IllegalStateException.class;
  private static final Class<IndexOutOfBoundsException> BOUNDS = IndexOutOfBoundsException.class;

  private void bad(
      String method, Class<? extends Throwable> expected, String message, ThrowingCallable call) {
    cases.add(new Case(method, expected, message, call));
  }

  private void describe() {
    device();
    builder();
    streams();
    buffers();
    graphs();
    arithmetic();
    rowsAndAxes();
    attention();
    executables();
    layerNorm();
  }

  private void device() {
    for (long bytes : new long[] {0, -1, Long.MIN_VALUE}) {
      bad("Device.allocate(long)", ARGUMENT, "" + bytes, () -> device.allocate(bytes));
      bad(
          "Device.allocate(long,DeviceStream)",
          ARGUMENT,
          "" + bytes,
          () -> device.allocate(bytes, stream));
    }
    for (long bytes : new long[] {Long.MAX_VALUE, 1L << 62, 1L << 40}) {
      bad(
          "Device.allocate(long)",
          OutOfDeviceMemoryException.class,
          "" + bytes,
          () -> device.allocate(bytes));
    }
    bad("Device.allocate(long,DeviceStream)", NULL, "stream", () -> device.allocate(8, null));
    bad(
        "Device.allocate(long,DeviceStream)",
        ARGUMENT,
        "another device",
        () -> device.allocate(8, foreignStream));
    bad("Device.compile(Graph)", NULL, "graph", () -> device.compile(null));
    String typed = "Device.tensor(DType,float[],long[])";
    bad(typed, NULL, "type", () -> device.tensor(null, new float[1], 1));
    bad(typed, NULL, "values", () -> device.tensor(DType.F16, null, 1));
    bad(typed, NULL, "shape", () -> device.tensor(DType.F16, new float[1], (long[]) null));
    bad(typed, ARGUMENT, "[3]", () -> device.tensor(DType.F16, new float[2], 3));
    bad("Device.tensor(float[],long[])", NULL, "values", () -> device.tensor(null, 1));
    bad(
        "Device.tensor(float[],long[])",
        NULL,
        "shape",
        () -> device.tensor(new float[1], (long[]) null));
    bad("Device.tensor(float[],long[])", ARGUMENT, "[3]", () -> device.tensor(new float[2], 3));
    bad("Device.tensor(float[],long[])", ARGUMENT, "[0]", () -> device.tensor(new float[0], 0));
    bad("Device.tensor(float[],long[])", ARGUMENT, "[-1]", () -> device.tensor(new float[1], -1));
    bad(
        "Device.tensor(float[],long[])",
        ARGUMENT,
        "too many",
        () -> device.tensor(new float[1], Long.MAX_VALUE, 2));
    bad("Device.empty(DType,long[])", NULL, "type", () -> device.empty(null, 1));
    bad("Device.empty(DType,long[])", NULL, "shape", () -> device.empty(DType.F32, (long[]) null));
    bad("Device.empty(DType,long[])", ARGUMENT, "-5", () -> device.empty(DType.F32, 2, -5));
    bad(
        "Device.empty(DType,long[])",
        ARGUMENT,
        "8 dimensions",
        () -> device.empty(DType.F32, 1, 1, 1, 1, 1, 1, 1, 1, 1));
    bad(
        "Device.empty(DType,long[])",
        OutOfDeviceMemoryException.class,
        "cannot allocate",
        () -> device.empty(DType.F32, 1L << 40));
    timeouts("Device.synchronize(Duration)", device::synchronize);
    bad("DeviceMemory.trimTo(long)", ARGUMENT, "-1", () -> device.memory().trimTo(-1));
    bad("DeviceMemory.release(DeviceStream)", NULL, "", () -> device.memory().release(null));
    bad(
        "DeviceMemory.release(DeviceStream)",
        ARGUMENT,
        "another device",
        () -> device.memory().release(foreignStream));
    MemoryStats stats = device.memory().stats();
    bad("MemoryStats.bytes(Metric,Pool)", NULL, "", () -> stats.bytes(null, MemoryStats.Pool.ALL));
    bad(
        "MemoryStats.bytes(Metric,Pool)",
        NULL,
        "",
        () -> stats.bytes(MemoryStats.Metric.ACTIVE, null));
    bad("MemoryStats.count(Metric,Pool)", NULL, "", () -> stats.count(null, MemoryStats.Pool.ALL));
    bad(
        "MemoryStats.count(Metric,Pool)",
        NULL,
        "",
        () -> stats.count(MemoryStats.Metric.ACTIVE, null));
  }

  private void timeouts(String method, Consumer<Duration> wait) {
    bad(method, NULL, "timeout", () -> wait.accept(null));
    bad(method, ARGUMENT, "negative", () -> wait.accept(Duration.ofNanos(-1)));
    bad(method, ARGUMENT, "negative", () -> wait.accept(Duration.ofSeconds(Long.MIN_VALUE)));
  }

  private static Device.Builder builderOn(DriverProvider provider) {
    return Device.builder().driver(provider);
  }

  private void setting(String method, String name, Consumer<Device.Builder> set) {
    bad(
        "Device.Builder." + method,
        ARGUMENT,
        name,
        () -> {
          Device.Builder wrong = builderOn(Script.immediate().provider());
          set.accept(wrong);
          wrong.open().close();
        });
  }

  private void builder() {
    bad("Device.Builder.backend(String)", NULL, "", () -> Device.builder().backend(null));
    setting("backend(String)", "backend", each -> each.backend("cuda"));
    setting("backend(String)", "backend", each -> each.backend(""));
    bad("Device.Builder.libraryPath(Path)", NULL, "", () -> Device.builder().libraryPath(null));
    bad("Device.Builder.exhaustion(Exhaustion)", NULL, "", () -> Device.builder().exhaustion(null));
    bad("Device.Builder.mathLibrary(String)", NULL, "", () -> Device.builder().mathLibrary(null));
    bad("Device.Builder.driver(DriverProvider)", NULL, "", () -> Device.builder().driver(null));
    bad("Device.Builder.steal(StealPolicy)", NULL, "policy", () -> Device.builder().steal(null));
    bad(
        "Device.Builder.memoryMode(MemoryMode)",
        NULL,
        "mode",
        () -> Device.builder().memoryMode(null));
    bad("Device.Builder.leaks(LeakLevel)", NULL, "level", () -> Device.builder().leaks(null));
    bad("Device.Builder.hazards(HazardMode)", NULL, "mode", () -> Device.builder().hazards(null));
    bad(
        "Device.Builder.hazardReport(HazardReport)",
        NULL,
        "report",
        () -> Device.builder().hazardReport(null));
    for (int operations : new int[] {0, -1, 1_000_001}) {
      setting("hazardSample(int)", "hazards.sample", each -> each.hazardSample(operations));
    }
    for (double ratio : new double[] {-0.1, 2.1, Double.NaN, Double.POSITIVE_INFINITY}) {
      setting(
          "memoryRatios(double,double)", "memory.soft.ratio", each -> each.memoryRatios(ratio, 2));
      setting(
          "memoryRatios(double,double)", "memory.hard.ratio", each -> each.memoryRatios(0, ratio));
    }
    for (int events : new int[] {-1, 1_000_001}) {
      setting("memoryHistory(int)", "memory.history", each -> each.memoryHistory(events));
    }
    for (int size : new int[] {0, -1, 1025, Integer.MIN_VALUE, Integer.MAX_VALUE}) {
      setting("poolSize(int)", "pool.size", each -> each.poolSize(size));
    }
    for (int most : new int[] {0, -1, 61, Integer.MAX_VALUE}) {
      setting("maxInFlight(int)", "stream.max.in.flight", each -> each.maxInFlight(most));
    }
    for (int graphs : new int[] {-1, 100_001}) {
      setting("graphCacheSize(int)", "graph.cache.size", each -> each.graphCacheSize(graphs));
    }
    for (int workers : new int[] {-1, 1025, Integer.MIN_VALUE}) {
      setting("workers(int)", "host.workers", each -> each.workers(workers));
    }
    duration("exhaustionTimeout(Duration)", "pool.timeout.ms", Device.Builder::exhaustionTimeout);
    duration("watchdog(Duration)", "wait.watchdog.ms", Device.Builder::watchdog);
    duration("closeTimeout(Duration)", "close.timeout.ms", Device.Builder::closeTimeout);
  }

  private interface DurationSetting {
    Device.Builder set(Device.Builder builder, Duration duration);
  }

  private void duration(String method, String name, DurationSetting setting) {
    bad("Device.Builder." + method, NULL, "", () -> setting.set(Device.builder(), null));
    setting(method, name, each -> setting.set(each, Duration.ofMillis(-1)));
    setting(method, name, each -> setting.set(each, Duration.ofDays(100)));
    setting(method, name, each -> setting.set(each, Duration.ofSeconds(Long.MAX_VALUE)));
    setting(method, name, each -> setting.set(each, Duration.ofSeconds(Long.MIN_VALUE)));
  }

  private void streams() {
    StreamPool pool = device.streams();
    for (int index : new int[] {-1, 4, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
      bad("StreamPool.stream(int)", BOUNDS, "" + index, () -> pool.stream(index));
    }
    bad("StreamPool.setCurrent(DeviceStream)", NULL, "stream", () -> pool.setCurrent(null));
    bad(
        "StreamPool.setCurrent(DeviceStream)",
        ARGUMENT,
        "another device",
        () -> pool.setCurrent(foreignStream));
    String callWith = "StreamPool.callWith(DeviceStream,CallableOp)";
    bad(callWith, NULL, "stream", () -> pool.callWith(null, () -> 1));
    bad(callWith, NULL, "work", () -> pool.callWith(stream, null));
    bad(callWith, ARGUMENT, "another device", () -> pool.callWith(foreignStream, () -> 1));
    String runWith = "StreamPool.runWith(DeviceStream,Runnable)";
    bad(runWith, NULL, "stream", () -> pool.runWith(null, () -> {}));
    bad(runWith, NULL, "work", () -> pool.runWith(stream, null));
    bad(runWith, ARGUMENT, "another device", () -> pool.runWith(foreignStream, () -> {}));
    bad("StreamPool.lease(Exhaustion)", NULL, "policy", () -> pool.lease(null));
    String lease = "StreamPool.lease(Exhaustion,Duration)";
    bad(lease, NULL, "policy", () -> pool.lease(null, Duration.ZERO));
    bad(lease, NULL, "timeout", () -> pool.lease(Exhaustion.TIMEOUT, null));
    bad(lease, ARGUMENT, "negative", () -> pool.lease(Exhaustion.TIMEOUT, Duration.ofNanos(-1)));

    timeouts("DeviceStream.synchronize(Duration)", stream::synchronize);
    bad("DeviceStream.waitFor(DeviceEvent)", NULL, "event", () -> stream.waitFor(null));
    bad(
        "DeviceStream.waitFor(DeviceEvent)",
        ARGUMENT,
        "another device",
        () -> stream.waitFor(foreignStream.record()));
    DeviceEvent event = stream.record();
    timeouts("DeviceEvent.await(Duration)", event::await);
    HostEvent promised = device.hostEvent();
    bad(
        "DeviceStream.waitFor(DeviceEvent)",
        ARGUMENT,
        "another device",
        this::waitForAForeignEvent);
    timeouts("DeviceEvent.await(Duration)", promised::await);
    bad("HostEvent.fail(Throwable)", NULL, "cause", () -> promised.fail(null));
    String elapsed = "DeviceEvent.elapsed(DeviceEvent,DeviceEvent)";
    bad(elapsed, NULL, "start", () -> DeviceEvent.elapsed(null, stream.recordTimed()));
    bad(elapsed, NULL, "end", () -> DeviceEvent.elapsed(stream.recordTimed(), null));
    bad(
        elapsed,
        ARGUMENT,
        "recordTimed",
        () -> DeviceEvent.elapsed(stream.recordTimed(), stream.record()));
    bad(
        elapsed,
        ARGUMENT,
        "two devices",
        () -> DeviceEvent.elapsed(stream.recordTimed(), foreignStream.recordTimed()));
  }

  private void waitForAForeignEvent() {
    HostEvent event = foreign.hostEvent();
    try {
      stream.waitFor(event);
    } finally {
      event.signal();
    }
  }

  private void buffers() {
    DeviceBuffer closed = device.allocate(64, stream);
    closed.close();
    String fillAll = "DeviceStream.fill(DeviceBuffer,byte)";
    bad(fillAll, NULL, "buffer", () -> stream.fill(null, (byte) 1));
    bad(fillAll, STATE, "buffer is closed", () -> stream.fill(closed, (byte) 1));
    bad(fillAll, ARGUMENT, "another device", () -> stream.fill(foreignBuffer, (byte) 1));
    String fill = "DeviceStream.fill(DeviceBuffer,long,long,byte)";
    bad(fill, NULL, "buffer", () -> stream.fill(null, 0, 8, (byte) 1));
    bad(fill, STATE, "buffer is closed", () -> stream.fill(closed, 0, 8, (byte) 1));
    bad(fill, ARGUMENT, "another device", () -> stream.fill(foreignBuffer, 0, 8, (byte) 1));
    String copy = "DeviceStream.copy(DeviceBuffer,long,DeviceBuffer,long,long)";
    bad(copy, NULL, "source", () -> stream.copy(null, 0, buffer, 0, 8));
    bad(copy, NULL, "target", () -> stream.copy(buffer, 0, null, 0, 8));
    bad(copy, STATE, "buffer is closed", () -> stream.copy(closed, 0, buffer, 0, 8));
    bad(copy, STATE, "buffer is closed", () -> stream.copy(buffer, 0, closed, 0, 8));
    bad(copy, ARGUMENT, "another device", () -> stream.copy(foreignBuffer, 0, buffer, 0, 8));
    bad(copy, ARGUMENT, "another device", () -> stream.copy(buffer, 0, foreignBuffer, 0, 8));
    bad(copy, ARGUMENT, "overlap", () -> stream.copy(buffer, 0, buffer, 4, 8));
    bad(copy, ARGUMENT, "overlap", () -> stream.copy(buffer, 0, buffer, 0, 64));
    String view = "HostView.bytes(long,int)";
    HostView open = buffer.mapUnsafe();
    open.close();
    bad(view, STATE, "view is closed", () -> open.bytes(0, 8));
    for (long[] range :
        new long[][] {
          {0, 65}, {64, 1}, {-1, 1}, {0, -1}, {-8, 16}, {Long.MAX_VALUE, 2}, {Long.MIN_VALUE, 8}
        }) {
      String told = "" + range[0];
      bad(fill, BOUNDS, told, () -> stream.fill(buffer, range[0], range[1], (byte) 1));
      bad(copy, BOUNDS, told, () -> stream.copy(buffer, range[0], x.buffer(), 0, range[1]));
      bad(copy, BOUNDS, "", () -> stream.copy(buffer, 0, y.buffer(), range[0], range[1]));
      bad(
          view,
          BOUNDS,
          told,
          () -> {
            try (HostView mapped = buffer.map()) {
              mapped.bytes(range[0], (int) range[1]);
            }
          });
    }
    bad(fill, BOUNDS, "", () -> stream.fill(buffer, 8, Long.MAX_VALUE, (byte) 1));
    String record = "DeviceBuffer.recordStream(DeviceStream)";
    bad(record, NULL, "stream", () -> buffer.recordStream(null));
    bad(record, ARGUMENT, "another device", () -> buffer.recordStream(foreignStream));
    bad(record, STATE, "buffer is closed", () -> closed.recordStream(stream));
  }

  private void graphs() {
    bad("Graph.build(Consumer)", NULL, "description", () -> Graph.build(null));
    bad("Graph.build(Consumer)", STATE, "no output", () -> Graph.build(g -> {}));
    Node other = graph.outputs().getFirst();
    inGraph("input(String,DType,long[])", NULL, "name", (g, n) -> g.input(null, DType.F32, 1));
    inGraph("input(String,DType,long[])", NULL, "type", (g, n) -> g.input("a", null, 1));
    inGraph(
        "input(String,DType,long[])",
        NULL,
        "shape",
        (g, n) -> g.input("a", DType.F32, (long[]) null));
    inGraph("input(String,DType,long[])", ARGUMENT, "-3", (g, n) -> g.input("a", DType.F32, -3));
    inGraph("matmul(Node,Node)", NULL, "matmul", (g, n) -> g.matmul(null, n));
    inGraph("matmul(Node,Node)", NULL, "matmul", (g, n) -> g.matmul(n, null));
    inGraph("matmul(Node,Node)", ARGUMENT, "another graph", (g, n) -> g.matmul(n, other));
    inGraph("matmul(Node,Node)", ARGUMENT, "[2, 3]", (g, n) -> g.matmul(n, n));
    inGraph("matmulTransposed(Node,Node)", NULL, "", (g, n) -> g.matmulTransposed(null, n));
    inGraph("matmulTransposed(Node,Node)", NULL, "", (g, n) -> g.matmulTransposed(n, null));
    inGraph(
        "matmulTransposed(Node,Node)",
        ARGUMENT,
        "another graph",
        (g, n) -> g.matmulTransposed(other, n));
    inGraph("linear(Node,Node)", NULL, "linear", (g, n) -> g.linear(null, n));
    inGraph("linear(Node,Node)", NULL, "linear", (g, n) -> g.linear(n, null));
    inGraph("linear(Node,Node)", ARGUMENT, "another graph", (g, n) -> g.linear(n, other));
    inGraph("linear(Node,Node,Node)", NULL, "linear", (g, n) -> g.linear(n, n, null));
    inGraph("linear(Node,Node,Node)", ARGUMENT, "another graph", (g, n) -> g.linear(n, n, other));
    inGraph("linear(Node,Node,Node)", ARGUMENT, "[2, 3]", (g, n) -> g.linear(n, n, n));
    inGraph("add(Node,Node)", NULL, "add", (g, n) -> g.add(null, n));
    inGraph("add(Node,Node)", NULL, "add", (g, n) -> g.add(n, null));
    inGraph("add(Node,Node)", ARGUMENT, "another graph", (g, n) -> g.add(n, other));
    inGraph("relu(Node)", NULL, "relu", (g, n) -> g.relu(null));
    inGraph("relu(Node)", ARGUMENT, "another graph", (g, n) -> g.relu(other));
    inGraph("output(String,Node)", NULL, "name", (g, n) -> g.output(null, g.relu(n)));
    inGraph("output(String,Node)", NULL, "output", (g, n) -> g.output("y", null));
    inGraph("output(String,Node)", ARGUMENT, "another graph", (g, n) -> g.output("y", other));
  }

  private void arithmetic() {
    Node other = graph.outputs().getFirst();
    String constant = "constant(float[],long[])";
    inGraph(constant, NULL, "values", (g, n) -> g.constant(null, 1));
    inGraph(constant, NULL, "shape", (g, n) -> g.constant(new float[1], (long[]) null));
    inGraph(constant, ARGUMENT, "[2]", (g, n) -> g.constant(new float[1], 2));
    String typed = "constant(DType,float[],long[])";
    inGraph(typed, NULL, "type", (g, n) -> g.constant(null, new float[1], 1));
    inGraph(typed, NULL, "values", (g, n) -> g.constant(DType.F16, null, 1));
    inGraph(typed, ARGUMENT, "[0]", (g, n) -> g.constant(DType.F16, new float[1], 0));
    inGraph("cast(Node,DType)", NULL, "cast", (g, n) -> g.cast(null, DType.F16));
    inGraph("cast(Node,DType)", NULL, "type", (g, n) -> g.cast(n, null));
    inGraph("cast(Node,DType)", ARGUMENT, "another graph", (g, n) -> g.cast(other, DType.F16));
    String matmul = "matmul(Node,boolean,Node,boolean)";
    inGraph(matmul, NULL, "matmul", (g, n) -> g.matmul(null, true, n, true));
    inGraph(matmul, NULL, "matmul", (g, n) -> g.matmul(n, true, null, true));
    inGraph(matmul, ARGUMENT, "another graph", (g, n) -> g.matmul(n, true, other, true));
    inGraph(matmul, ARGUMENT, "[2, 3]", (g, n) -> g.matmul(n, true, n, true));
    inGraph("multiply(Node,float)", NULL, "multiply", (g, n) -> g.multiply(null, 2));
    inGraph("multiply(Node,float)", ARGUMENT, "another graph", (g, n) -> g.multiply(other, 2));
    binary("subtract", GraphBuilder::subtract);
    binary("multiply", GraphBuilder::multiply);
    binary("divide", GraphBuilder::divide);
    unary("sigmoid", GraphBuilder::sigmoid);
    unary("tanh", GraphBuilder::tanh);
    unary("gelu", GraphBuilder::gelu);
    unary("geluTanh", GraphBuilder::geluTanh);
    unary("softmax", GraphBuilder::softmax);
    inGraph("softmax(Node)", ARGUMENT, "no last axis", (g, n) -> g.softmax(number(g)));
  }

  private interface Unary {
    Node of(GraphBuilder builder, Node node);
  }

  private interface Binary {
    Node of(GraphBuilder builder, Node a, Node b);
  }

  private void unary(String name, Unary operation) {
    Node other = graph.outputs().getFirst();
    String method = name + "(Node)";
    inGraph(method, NULL, name, (g, n) -> operation.of(g, null));
    inGraph(method, ARGUMENT, "another graph", (g, n) -> operation.of(g, other));
  }

  private void binary(String name, Binary operation) {
    Node other = graph.outputs().getFirst();
    String method = name + "(Node,Node)";
    inGraph(method, NULL, name, (g, n) -> operation.of(g, null, n));
    inGraph(method, NULL, name, (g, n) -> operation.of(g, n, null));
    inGraph(method, ARGUMENT, "another graph", (g, n) -> operation.of(g, other, n));
    inGraph(
        method,
        ARGUMENT,
        name + "#2: shapes do not fit: n [2, 3] and m [3, 2]",
        (g, n) -> operation.of(g, n, g.input("m", DType.F32, 3, 2)));
    inGraph(
        method,
        ARGUMENT,
        name + "#2: n [2, 3] is F32, m [2, 3] is F16",
        (g, n) -> operation.of(g, n, g.input("m", DType.F16, 2, 3)));
  }

  private static Node number(GraphBuilder g) {
    return g.input("number", DType.F32);
  }

  private void rowsAndAxes() {
    Node other = graph.outputs().getFirst();
    String norm = "layerNorm(Node,Node,Node,float)";
    inGraph(norm, NULL, "layerNorm", (g, n) -> g.layerNorm(null, n, n, 0));
    inGraph(norm, NULL, "layerNorm", (g, n) -> g.layerNorm(n, n, null, 0));
    inGraph(norm, ARGUMENT, "another graph", (g, n) -> g.layerNorm(n, other, n, 0));
    inGraph(norm, ARGUMENT, "[2, 3]", (g, n) -> g.layerNorm(n, n, n, 0));
    for (float eps : new float[] {-1, Float.NaN, Float.POSITIVE_INFINITY}) {
      inGraph(norm, ARGUMENT, "" + eps, (g, n) -> g.layerNorm(n, n, n, eps));
    }
    String mean = "mean(Node,boolean,int[])";
    inGraph(mean, NULL, "mean", (g, n) -> g.mean(null, true, 0));
    inGraph(mean, NULL, "axes", (g, n) -> g.mean(n, true, (int[]) null));
    inGraph(mean, ARGUMENT, "another graph", (g, n) -> g.mean(other, true, 0));
    inGraph(mean, ARGUMENT, "no axes", (g, n) -> g.mean(n, true));
    inGraph(mean, ARGUMENT, "mean#1 of n [2, 3]: there is no axis 2", (g, n) -> g.mean(n, true, 2));
    inGraph(mean, ARGUMENT, "axis -3", (g, n) -> g.mean(n, true, -3));
    inGraph(mean, ARGUMENT, "twice", (g, n) -> g.mean(n, true, 1, -1));
    String reshape = "reshape(Node,long[])";
    inGraph(reshape, NULL, "reshape", (g, n) -> g.reshape(null, 6));
    inGraph(reshape, NULL, "shape", (g, n) -> g.reshape(n, (long[]) null));
    inGraph(reshape, ARGUMENT, "[4, 2]", (g, n) -> g.reshape(n, 4, 2));
    inGraph(reshape, ARGUMENT, "-2", (g, n) -> g.reshape(n, -2, -3));
    String transpose = "transpose(Node,int[])";
    inGraph(transpose, NULL, "transpose", (g, n) -> g.transpose(null, 1, 0));
    inGraph(transpose, NULL, "permutation", (g, n) -> g.transpose(n, (int[]) null));
    for (int[] permutation : new int[][] {{}, {0}, {0, 0}, {0, 2}, {-1, 0}, {0, 1, 2}}) {
      inGraph(
          transpose, ARGUMENT, Arrays.toString(permutation), (g, n) -> g.transpose(n, permutation));
    }
    String concat = "concat(int,Node[])";
    inGraph(concat, NULL, "nodes", (g, n) -> g.concat(0, (Node[]) null));
    inGraph(concat, NULL, "concat", (g, n) -> g.concat(0, n, null));
    inGraph(concat, ARGUMENT, "no nodes", (g, n) -> g.concat(0));
    inGraph(concat, ARGUMENT, "axis 2", (g, n) -> g.concat(2, n, n));
    inGraph(concat, ARGUMENT, "another graph", (g, n) -> g.concat(0, n, other));
    inGraph(concat, ARGUMENT, "m [2, 2]", (g, n) -> g.concat(0, n, g.input("m", DType.F32, 2, 2)));
    inGraph(
        concat,
        ARGUMENT,
        "m [2, 3, 1]",
        (g, n) -> g.concat(0, n, g.input("m", DType.F32, 2, 3, 1)));
    inGraph(
        concat,
        ARGUMENT,
        "too large",
        (g, n) -> {
          Node large = g.input("large", DType.F32, 1L << 57);
          Node[] many = new Node[64];
          Arrays.fill(many, large);
          g.concat(0, many);
        });
    String range = "slice(Node,int,long,long)";
    inGraph(range, NULL, "slice", (g, n) -> g.slice(null, 0, 0, 1));
    inGraph(range, ARGUMENT, "axis 2", (g, n) -> g.slice(n, 2, 0, 1));
    inGraph(range, ARGUMENT, "[0, 2]", (g, n) -> g.slice(n, 1, 2, 2));
    inGraph(range, ARGUMENT, "[2, 4]", (g, n) -> g.slice(n, 1, 0, 4));
    inGraph(range, ARGUMENT, "[0, -1]", (g, n) -> g.slice(n, 1, -1, 2));
    String ranges = "slice(Node,long[],long[])";
    inGraph(ranges, NULL, "slice", (g, n) -> g.slice(null, new long[2], new long[2]));
    inGraph(ranges, NULL, "starts", (g, n) -> g.slice(n, null, new long[2]));
    inGraph(ranges, NULL, "ends", (g, n) -> g.slice(n, new long[2], null));
    inGraph(ranges, ARGUMENT, "[0]", (g, n) -> g.slice(n, new long[1], new long[] {1}));
    inGraph(ranges, ARGUMENT, "[0, 0]", (g, n) -> g.slice(n, new long[2], new long[2]));
  }

  private void attention() {
    Node other = graph.outputs().getFirst();
    String attention = "scaledDotProductAttention(Node,Node,Node,boolean)";
    inGraph(attention, NULL, "", (g, n) -> g.scaledDotProductAttention(null, n, n, false));
    inGraph(attention, NULL, "", (g, n) -> g.scaledDotProductAttention(n, n, null, false));
    inGraph(
        attention,
        ARGUMENT,
        "another graph",
        (g, n) -> g.scaledDotProductAttention(n, other, n, false));
    inGraph(
        attention,
        ARGUMENT,
        "[2, 2]",
        (g, n) -> g.scaledDotProductAttention(n, g.input("k", DType.F32, 2, 2), n, false));
    inGraph(
        attention,
        ARGUMENT,
        "[4, 3]",
        (g, n) -> g.scaledDotProductAttention(n, n, g.input("v", DType.F32, 4, 3), true));
    String heads = "multiHeadAttention(Node,int,Node,Node,Node,Node)";
    inGraph(heads, NULL, "", (g, n) -> g.multiHeadAttention(null, 1, n, n, n, n));
    inGraph(heads, NULL, "", (g, n) -> g.multiHeadAttention(n, 1, n, n, n, null));
    inGraph(heads, ARGUMENT, "another graph", (g, n) -> g.multiHeadAttention(n, 1, n, other, n, n));
    inGraph(heads, ARGUMENT, "2 heads", (g, n) -> g.multiHeadAttention(n, 2, n, n, n, n));
    inGraph(heads, ARGUMENT, "0 heads", (g, n) -> g.multiHeadAttention(n, 0, n, n, n, n));
    inGraph(heads, ARGUMENT, "[2, 3]", (g, n) -> g.multiHeadAttention(n, 1, n, n, n, n));
    inGraph(heads, ARGUMENT, "rank", (g, n) -> g.multiHeadAttention(number(g), 1, n, n, n, n));
  }

  private interface InGraph {
    void in(GraphBuilder builder, Node node);
  }

  private void inGraph(
      String method, Class<? extends Throwable> expected, String message, InGraph call) {
    bad(
        "GraphBuilder." + method,
        expected,
        message,
        () -> Graph.build(g -> call.in(g, g.input("n", DType.F32, 2, 3))));
  }

  private void executables() {
    Tensor closed = device.tensor(new float[6], 2, 3);
    closed.close();
    Executable closedExecutable = device.compile(graph);
    closedExecutable.close();
    Tensor[] good = {x, w, b};
    tensors("run(Tensor[])", inputs -> executable.run(inputs), closed);
    tensors("run(DeviceStream,Tensor[])", inputs -> executable.run(stream, inputs), closed);
    tensors("runAll(Tensor[])", inputs -> executable.runAll(inputs), closed);
    tensors("runAll(DeviceStream,Tensor[])", inputs -> executable.runAll(stream, inputs), closed);
    tensors(
        "runInto(List,List)",
        inputs -> executable.runInto(inputs == null ? null : Arrays.asList(inputs), List.of(y)),
        closed);
    tensors(
        "runInto(DeviceStream,List,List)",
        inputs ->
            executable.runInto(stream, inputs == null ? null : Arrays.asList(inputs), List.of(y)),
        closed);
    stream("run(DeviceStream,Tensor[])", each -> executable.run(each, good));
    stream("runAll(DeviceStream,Tensor[])", each -> executable.runAll(each, good));
    stream(
        "runInto(DeviceStream,List,List)",
        each -> executable.runInto(each, List.of(good), List.of(y)));
    String into = "Executable.runInto(List,List)";
    bad(into, NULL, "outputs", () -> executable.runInto(List.of(good), null));
    bad(into, NULL, "", () -> executable.runInto(List.of(good), Arrays.asList((Tensor) null)));
    bad(into, ARGUMENT, "1 outputs, not 0", () -> executable.runInto(List.of(good), List.of()));
    bad(into, ARGUMENT, "[2, 3]", () -> executable.runInto(List.of(good), List.of(x)));
    bad(
        "Executable.run(Tensor[])",
        STATE,
        "executable is closed",
        () -> closedExecutable.run(good));
    bad(
        "Executable.runInto(List,List)",
        STATE,
        "executable is closed",
        () -> closedExecutable.runInto(List.of(good), List.of(y)));
    bad("Tensor.toFloats(float[])", NULL, "into", () -> x.toFloats(null));
    bad("Tensor.toFloats(float[])", ARGUMENT, "5", () -> x.toFloats(new float[5]));
    bad("Tensor.toFloats(float[])", STATE, "closed", () -> closed.toFloats(new float[6]));
    bad("Tensor.write(float[])", NULL, "values", () -> x.write(null));
    bad("Tensor.write(float[])", ARGUMENT, "[2, 3]", () -> x.write(new float[5]));
    bad("Tensor.write(float[])", ARGUMENT, "[2, 3]", () -> x.write(new float[7]));
    bad("Tensor.write(float[])", STATE, "closed", () -> closed.write(new float[6]));
  }

  private void layerNorm() {
    String norm = "DeviceStream.layerNorm(Tensor,Tensor,Tensor,float,Tensor)";
    Tensor row = device.tensor(new float[3], 3);
    Tensor out = device.empty(DType.F32, 2, 3);
    Tensor half = device.empty(DType.F16, 2, 3);
    Tensor halfRow = device.empty(DType.F16, 3);
    Tensor out3 = device.empty(DType.F32, 3);
    Tensor number = device.tensor(new float[1]);
    Tensor closed = device.empty(DType.F32, 2, 3);
    closed.close();
    Tensor closedRow = device.empty(DType.F32, 3);
    closedRow.close();
    bad(norm, NULL, "x", () -> stream.layerNorm(null, row, row, 0, out));
    bad(norm, NULL, "gamma", () -> stream.layerNorm(x, null, row, 0, out));
    bad(norm, NULL, "beta", () -> stream.layerNorm(x, row, null, 0, out));
    bad(norm, NULL, "y", () -> stream.layerNorm(x, row, row, 0, null));
    for (float eps : new float[] {-1, Float.NaN, Float.POSITIVE_INFINITY}) {
      bad(norm, ARGUMENT, "" + eps, () -> stream.layerNorm(x, row, row, eps, out));
    }
    bad(norm, ARGUMENT, "F16", () -> stream.layerNorm(half, row, row, 0, out));
    bad(norm, ARGUMENT, "F16", () -> stream.layerNorm(x, halfRow, row, 0, out));
    bad(norm, ARGUMENT, "F16", () -> stream.layerNorm(x, row, row, 0, half));
    bad(norm, ARGUMENT, "last axis", () -> stream.layerNorm(number, row, row, 0, number));
    bad(norm, ARGUMENT, "gamma is F32 [3], not", () -> stream.layerNorm(x, b, row, 0, out));
    bad(norm, ARGUMENT, "beta is F32 [3], not", () -> stream.layerNorm(x, row, x, 0, out));
    bad(norm, ARGUMENT, "y is F32 [2, 3], not", () -> stream.layerNorm(x, row, row, 0, y));
    bad(norm, ARGUMENT, "y is also", () -> stream.layerNorm(x, row, row, 0, x));
    bad(norm, ARGUMENT, "y is also", () -> stream.layerNorm(row, out3, row, 0, out3));
    bad(norm, STATE, "closed", () -> stream.layerNorm(closed, row, row, 0, out));
    bad(norm, STATE, "closed", () -> stream.layerNorm(x, row, closedRow, 0, out));
    bad(norm, STATE, "closed", () -> stream.layerNorm(x, row, row, 0, closed));
    bad(norm, ARGUMENT, "device", () -> stream.layerNorm(foreignTensor, row, row, 0, out));
    bad(norm, ARGUMENT, "device", () -> stream.layerNorm(x, row, row, 0, foreignTensor));
  }

  private void tensors(String method, Consumer<Tensor[]> run, Tensor closed) {
    String key = "Executable." + method;
    bad(key, NULL, "inputs", () -> run.accept(null));
    bad(key, NULL, "w", () -> run.accept(new Tensor[] {x, null, b}));
    bad(key, ARGUMENT, "3 inputs, not 2", () -> run.accept(new Tensor[] {x, w}));
    bad(key, ARGUMENT, "3 inputs, not 4", () -> run.accept(new Tensor[] {x, w, b, b}));
    bad(key, ARGUMENT, "input 2 (b)", () -> run.accept(new Tensor[] {x, w, w}));
    bad(key, STATE, "closed", () -> run.accept(new Tensor[] {x, closed, b}));
    bad(key, ARGUMENT, "another device", () -> run.accept(new Tensor[] {foreignTensor, w, b}));
  }

  private void stream(String method, Consumer<DeviceStream> run) {
    bad("Executable." + method, NULL, "stream", () -> run.accept(null));
    bad("Executable." + method, ARGUMENT, "another device", () -> run.accept(foreignStream));
  }

  // ---- running the table

  @TestFactory
  Stream<DynamicTest> isRefusedPreciselyAndLosesNothing() {
    describe();
    long allocated = device.memory().stats().allocated();
    int created = script.executables();
    return cases.stream()
        .map(
            each ->
                DynamicTest.dynamicTest(
                    each.method + " " + each.expected.getSimpleName() + " " + each.message,
                    () -> {
                      Throwable thrown = catchThrowable(each.call);
                      assertThat(thrown).isExactlyInstanceOf(each.expected);
                      assertThat(thrown.getMessage()).contains(each.message);
                      assertThat(device.memory().stats().allocated()).isEqualTo(allocated);
                      assertThat(script.executables()).isEqualTo(created);
                      try (Tensor result = executable.run(stream, x, w, b)) {
                        assertThat(result.toFloats()).containsExactly(0, 0, 0, 0);
                      }
                    }));
  }

  /** What methods without parameters do once their object, and then its device, is closed. */
  @Test
  void closedObjectsSaySo() {
    DeviceEvent event = stream.record();
    HostEvent promised = device.hostEvent();
    HostEvent kept = device.hostEvent();
    kept.signal();
    Lease lease = device.streams().lease();
    HostView view = buffer.map();
    lease.close();
    view.close();
    buffer.close();
    x.close();
    executable.close();
    expect("Lease.stream()", STATE, lease::stream);
    expect("HostView.bytes()", STATE, view::bytes);
    expect("DeviceBuffer.map()", STATE, buffer::map);
    expect("DeviceBuffer.mapReadOnly()", STATE, buffer::mapReadOnly);
    expect("DeviceBuffer.mapUnsafe()", STATE, buffer::mapUnsafe);
    expect("Tensor.toFloats()", STATE, x::toFloats);
    expect("Executable.path()", STATE, executable::path);
    device.close();
    Class<DeviceClosedException> over = DeviceClosedException.class;
    StreamPool pool = device.streams();
    DeviceMemory memory = device.memory();
    expect("Device.synchronize()", over, device::synchronize);
    expect("Device.hostEvent()", over, device::hostEvent);
    expect("HostEvent.signal()", over, promised::signal);
    expect("HostEvent.await()", over, promised::await);
    expect("DeviceBuffer.map()", over, buffer::map);
    expect("DeviceBuffer.mapReadOnly()", over, buffer::mapReadOnly);
    expect("DeviceBuffer.mapUnsafe()", over, buffer::mapUnsafe);
    expect("DeviceMemory.emptyCache()", over, memory::emptyCache);
    expect("DeviceStream.record()", over, stream::record);
    expect("DeviceStream.recordTimed()", over, stream::recordTimed);
    expect("DeviceStream.flush()", over, stream::flush);
    expect("DeviceStream.reset()", over, stream::reset);
    expect("DeviceStream.synchronize()", over, stream::synchronize);
    expect("StreamPool.lease()", over, pool::lease);
    expect("Tensor.toFloats()", over, x::toFloats);
    expect("Device.compile(Graph)", over, () -> device.compile(graph));
    expect("Device.counters()", over, device::counters);
    expect("Device.allocate(long)", over, () -> device.allocate(8));
    expect("Device.tensor(float[],long[])", over, () -> device.tensor(new float[1], 1));
    expect("Executable.run", over, () -> executable.run(stream, x, w, b));
    for (ThrowingCallable harmless :
        List.<ThrowingCallable>of(
            device::close,
            device::isClosed,
            device::hazards,
            device::info,
            device::settings,
            device::memory,
            device::streams,
            buffer::close,
            buffer::isClosed,
            buffer::byteSize,
            buffer::device,
            buffer::stream,
            event::query,
            event::await,
            event::toFuture,
            event::value,
            event::stream,
            kept::query,
            kept::await,
            kept::toFuture,
            () -> promised.fail(new IllegalStateException("late")),
            memory::stats,
            memory::history,
            memory::snapshot,
            memory::resetPeak,
            memory::resetAccumulated,
            stream::query,
            stream::failure,
            stream::id,
            stream::index,
            stream::device,
            executable::close,
            executable::graph,
            view::close,
            view::byteSize,
            lease::close,
            lease::exclusive,
            pool::created,
            pool::size,
            pool::releaseCurrentThread,
            x::close,
            x::isClosed,
            x::shape,
            x::type,
            x::elements,
            x::buffer)) {
      assertThat(catchThrowable(harmless)).isNull();
    }
  }

  private static void expect(
      String what, Class<? extends Throwable> expected, ThrowingCallable call) {
    Throwable thrown = catchThrowable(call);
    assertThat(thrown).as(what).isExactlyInstanceOf(expected);
    assertThat(thrown.getMessage()).as(what).contains("closed");
  }

  // ---- nothing is forgotten

  /** Entries that take anything of their type. */
  private static final Set<String> TAKES_ALL =
      Set.of("Device.Builder.debug(boolean)", "Device.Builder.commitAndContinue(boolean)");

  @Test
  void everyPublicMethodWithParametersIsInTheTable() {
    describe();
    Set<String> tested = cases.stream().map(Case::method).collect(Collectors.toSet());
    tested.addAll(TAKES_ALL);
    Set<String> there = new TreeSet<>();
    for (Class<?> type : publicTypes()) {
      for (Method method : type.getDeclaredMethods()) {
        if (Modifier.isPublic(method.getModifiers())
            && !method.isSynthetic()
            && method.getParameterCount() > 0
            && !method.getName().equals("equals")
            && !method.getName().equals("valueOf")) {
          there.add(signature(type, method));
        }
      }
    }
    assertThat(tested).containsExactlyInAnyOrderElementsOf(there);
  }

  private static String signature(Class<?> type, Method method) {
    String name = type.getName().substring(type.getPackageName().length() + 1).replace('$', '.');
    return Arrays.stream(method.getParameterTypes())
        .map(Class::getSimpleName)
        .collect(Collectors.joining(",", name + "." + method.getName() + "(", ")"));
  }

  /** The public types of the core's package, but exceptions, which the core makes itself. */
  private static Collection<Class<?>> publicTypes() {
    try {
      URI root = Device.class.getProtectionDomain().getCodeSource().getLocation().toURI();
      if (!root.getPath().endsWith(".jar")) {
        return publicTypes(Path.of(root).resolve("dev/metalstreams"));
      }
      try (FileSystem jar = FileSystems.newFileSystem(Path.of(root), Map.of())) {
        return publicTypes(jar.getPath("dev/metalstreams"));
      }
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static Collection<Class<?>> publicTypes(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files
          .map(file -> file.getFileName().toString())
          .filter(name -> name.endsWith(".class") && !name.equals("package-info.class"))
          .map(name -> "dev.metalstreams." + name.substring(0, name.length() - 6))
          .<Class<?>>map(BadInputTest::load)
          .filter(type -> Modifier.isPublic(type.getModifiers()))
          .filter(type -> !Throwable.class.isAssignableFrom(type))
          .toList();
    }
  }

  private static Class<?> load(String name) {
    try {
      return Class.forName(name, false, BadInputTest.class.getClassLoader());
    } catch (ClassNotFoundException e) {
      throw new LinkageError(name, e);
    }
  }
}
