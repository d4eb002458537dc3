package dev.metalstreams;

import dev.metalstreams.driver.GraphSpec;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongConsumer;
import java.util.function.ToLongFunction;

/**
 * What is compiled on a device, shared between all who ask for the same graph.
 *
 * <p>Invariants:
 *
 * <ul>
 *   <li>Keys are graphs, compared by value. There is at most one program per key in the map, and it
 *       is compiled by the thread whose request put it there; the others wait for it, and get its
 *       failure if it fails. A failure is not kept.
 *   <li>A program that somebody uses ({@code users > 0}) is never destroyed. What nobody uses stays
 *       in the map as long as that holds no more than {@code capacity} programs; beyond, the least
 *       recently used goes first. Programs in use count, but are not evicted: with more than {@code
 *       capacity} of them in use, the map holds those and no others.
 *   <li>Counts and map change under the lock. Compiling, waiting for it and destroying happen
 *       outside of it.
 * </ul>
 */
final class GraphCache {

  /** A compiled graph, or one on its way. */
  static final class Program {
    private final GraphSpec key;
    private final CompletableFuture<Long> handle = new CompletableFuture<>();
    private int users; // guarded by the cache's lock

    private Program(GraphSpec key) {
      this.key = key;
    }

    /** The driver's handle. Only of a program that {@link #acquire} has given out. */
    long handle() {
      return handle.join();
    }
  }

  private final ToLongFunction<GraphSpec> compiler;
  private final LongConsumer destroyer;
  private final int capacity;

  private final ReentrantLock lock = new ReentrantLock();
  private final Map<GraphSpec, Program> programs = new LinkedHashMap<>(16, 0.75f, true);
  private boolean closed;
  private long hits;
  private long misses;
  private long evictions;

  /**
   * A cache.
   *
   * @param compiler may take long, may fail
   * @param destroyer does not fail
   * @param capacity programs that are kept, 0 for none that nobody uses
   */
  GraphCache(ToLongFunction<GraphSpec> compiler, LongConsumer destroyer, int capacity) {
    this.compiler = compiler;
    this.destroyer = destroyer;
    this.capacity = capacity;
  }

  /**
   * A compiled program, for the caller to release once. Waits if another thread is compiling it.
   *
   * @throws WaitInterruptedException if interrupted while waiting
   * @throws RuntimeException what the compiler threw
   */
  Program acquire(GraphSpec key) {
    Program program;
    boolean mine;
    lock.lock();
    try {
      int before = programs.size();
      program = programs.computeIfAbsent(key, Program::new);
      mine = programs.size() > before;
      if (mine) {
        misses++;
      } else {
        hits++;
      }
      program.users++;
    } finally {
      lock.unlock();
    }
    if (mine) {
      compile(program);
    } else {
      await(program);
    }
    return program;
  }

  private void compile(Program program) {
    long compiled;
    try {
      compiled = compiler.applyAsLong(program.key);
    } catch (RuntimeException | Error e) {
      lock.lock();
      try {
        programs.remove(program.key, program); // before anybody learns of it and asks again
      } finally {
        lock.unlock();
      }
      program.handle.completeExceptionally(e);
      throw e;
    }
    program.handle.complete(compiled);
    destroy(evictable()); // now that this one counts
  }

  private void await(Program program) {
    try {
      program.handle.get();
    } catch (InterruptedException e) {
      release(program);
      Thread.currentThread().interrupt();
      throw new WaitInterruptedException("interrupted while another thread compiled the graph");
    } catch (ExecutionException e) {
      // Not released: a program that failed is in no map, and has nothing to destroy.
      if (e.getCause() instanceof RuntimeException failure) {
        throw failure;
      }
      throw new CompletionException(e.getCause());
    }
  }

  /** Ends one use. */
  void release(Program program) {
    List<Program> victims = List.of();
    lock.lock();
    try {
      program.users--;
      if (program.users == 0) {
        victims = evictable();
      }
    } finally {
      lock.unlock();
    }
    destroy(victims);
  }

  /** Takes out what is too much. */
  private List<Program> evictable() {
    lock.lock();
    try {
      List<Program> victims = new ArrayList<>();
      int most = closed ? 0 : capacity;
      Iterator<Program> oldestFirst = programs.values().iterator();
      while (programs.size() > most && oldestFirst.hasNext()) {
        Program program = oldestFirst.next();
        if (program.users == 0) {
          oldestFirst.remove();
          victims.add(program);
          evictions += closed ? 0 : 1;
        }
      }
      return victims;
    } finally {
      lock.unlock();
    }
  }

  private void destroy(List<Program> victims) {
    victims.forEach(program -> destroyer.accept(program.handle()));
  }

  /** Destroys what nobody uses; the rest goes with its last user. */
  void close() {
    lock.lock();
    try {
      closed = true;
    } finally {
      lock.unlock();
    }
    destroy(evictable());
  }

  GraphCacheStats stats() {
    lock.lock();
    try {
      int used = (int) programs.values().stream().filter(program -> program.users > 0).count();
      return new GraphCacheStats(hits, misses, evictions, programs.size(), used, capacity);
    } finally {
      lock.unlock();
    }
  }
}
