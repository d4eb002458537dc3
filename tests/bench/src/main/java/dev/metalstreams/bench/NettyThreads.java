package dev.metalstreams.bench;

import io.netty.util.concurrent.FastThreadLocalThread;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * The threads that JMH measures {@link Allocation} on: of Netty's own kind, since on others its
 * allocator has no caches.
 */
public final class NettyThreads extends ThreadPoolExecutor {

  /** As JMH wants it. */
  public NettyThreads(int threads, String prefix) {
    super(
        threads,
        threads,
        0,
        TimeUnit.SECONDS,
        new LinkedBlockingQueue<>(),
        work -> new FastThreadLocalThread(work, prefix));
  }

  /** Makes JMH use them; to be called before it runs anything in this process. */
  static void install() {
    System.setProperty("jmh.executor", "CUSTOM");
    System.setProperty("jmh.executor.class", NettyThreads.class.getName());
  }
}
