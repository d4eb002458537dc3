package dev.metalstreams.bench;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceBuffer;
import dev.metalstreams.DeviceStream;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.PooledByteBufAllocator;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.infra.Blackhole;

/**
 * What does it cost to get {@value #BYTES} bytes that the cache has, and to give them back?
 *
 * <p>Each thread has a stream of its own. The other allocators are at their best: Netty's has its
 * thread caches, up to this size, on {@link NettyThreads}.
 */
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public class Allocation {
  /** What is asked for. */
  static final int BYTES = 64 << 10;

  /** Streams in the pool. */
  static final int MOST_THREADS = 64;

  private static final MethodHandle MALLOC =
      function("malloc", FunctionDescriptor.of(ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));
  private static final MethodHandle FREE =
      function("free", FunctionDescriptor.ofVoid(ValueLayout.ADDRESS));

  @SuppressWarnings("restricted") // what the bindings do is what is compared
  private static MethodHandle function(String name, FunctionDescriptor type) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), type);
  }

  /** Shared by the threads. */
  @State(Scope.Benchmark)
  @SuppressWarnings("NullAway.Init") // by open()
  public static class Shared {
    private final AtomicInteger threads = new AtomicInteger();
    private Device device;

    /** Opens the device. */
    @Setup(Level.Trial)
    public void open() {
      device = Device.builder().backend("host").poolSize(MOST_THREADS + 1).open();
    }

    /** Closes it. */
    @TearDown(Level.Trial)
    public void close() {
      device.close();
    }
  }

  /** What a thread has of its own. */
  @State(Scope.Thread)
  @SuppressWarnings("NullAway.Init") // by open()
  public static class Own {
    private DeviceStream stream;
    private DeviceStream other;

    /** Takes a stream, and knows the next thread's. */
    @Setup(Level.Trial)
    public void open(Shared shared) {
      int index = shared.threads.getAndIncrement();
      stream = shared.device.streams().stream(index);
      other = shared.device.streams().stream(index + 1);
    }
  }

  /** The pooled allocator of Netty, with caches for buffers of this size. */
  @State(Scope.Benchmark)
  public static class Netty {
    static { // looked at when the allocator's class is initialised
      System.setProperty("io.netty.allocator.maxCachedBufferCapacity", Integer.toString(BYTES));
    }

    private final PooledByteBufAllocator allocator = new PooledByteBufAllocator(true);
  }

  /** Allocate and close. */
  @Benchmark
  public void device(Shared shared, Own own, Blackhole sink) {
    DeviceBuffer buffer = shared.device.allocate(BYTES, own.stream);
    sink.consume(buffer);
    buffer.close();
  }

  /** The same, and in between another stream uses it. */
  @Benchmark
  public void deviceShared(Shared shared, Own own, Blackhole sink) {
    DeviceBuffer buffer = shared.device.allocate(BYTES, own.stream);
    sink.consume(buffer);
    buffer.recordStream(own.other);
    buffer.close();
  }

  /** Netty's. */
  @Benchmark
  public void netty(Netty netty, Blackhole sink) {
    ByteBuf buffer = netty.allocator.directBuffer(BYTES);
    sink.consume(buffer);
    buffer.release();
  }

  /** Netty's, with a second owner. */
  @Benchmark
  public void nettyShared(Netty netty, Blackhole sink) {
    ByteBuf buffer = netty.allocator.directBuffer(BYTES);
    sink.consume(buffer);
    buffer.retain();
    buffer.release();
    buffer.release();
  }

  /** C's, called from Java. */
  @Benchmark
  public void malloc(Blackhole sink) throws Throwable {
    MemorySegment memory = (MemorySegment) MALLOC.invokeExact((long) BYTES);
    sink.consume(memory);
    FREE.invokeExact(memory);
  }
}
