package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.DeviceEvent;
import dev.metalstreams.DeviceStream;
import dev.metalstreams.cli.Sheet.Chart;
import dev.metalstreams.cli.Sheet.Column;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadFactory;

/** What the calls of the library cost by themselves, and what threads cost. */
final class OverheadBench implements Bench {
  static final String NAME = "overhead";

  private static final int SMALL = 16;

  /** So many calls between two looks at the clock, which takes as long as the cheapest of them. */
  private static final int CALLS = 64;

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String summary() {
    return "what single calls cost, and a new thread for each operation";
  }

  @Override
  public Sheet measure(
      Device device, BenchOptions options, Invocation invocation, Findings findings) {
    Sheet sheet =
        new Sheet(
            NAME,
            "Nanoseconds for one call or operation",
            new Column("what", "what", 0),
            new Column("ns", "ns", 0));
    Products products = new Products(device, SMALL, invocation.seed(), findings);
    ExecutorService pool =
        Executors.newFixedThreadPool(1, Thread.ofPlatform().daemon().name("bench-pool").factory());
    try (products) {
      Map<String, Rounds.Trial> trials = new LinkedHashMap<>();
      trials.put("look up the current stream", call(() -> device.streams().current(), findings));
      trials.put("record an event", onStream(device, stream -> () -> stream.record(), findings));
      trials.put("ask a finished event", onEvent(device, DeviceEvent::query, findings));
      trials.put(
          "wait for a finished event",
          onEvent(
              device,
              event -> {
                event.await();
                return true;
              },
              findings));
      trials.put(
          "run a product of 16 x 16 and wait",
          new ThreadTrial(1, 1, () -> products.job(1, Products.Sync.EVENT), findings));
      trials.put(
          "run a product of 16 x 16, 64 before a wait",
          new ThreadTrial(1, CALLS, () -> products.job(CALLS, Products.Sync.EVENT), findings));
      trials.put("upload, run and read: on one thread", whole(products, findings));
      trials.put("upload, run and read: in a pool", inPool(products, pool, findings));
      trials.put(
          "upload, run and read: a new platform thread each",
          inNewThreads(products, Thread.ofPlatform().factory(), findings));
      trials.put(
          "upload, run and read: a new virtual thread each",
          inNewThreads(products, Thread.ofVirtual().factory(), findings));
      Rounds rounds = new Rounds(invocation, NAME);
      trials.forEach(rounds::add);
      rounds.run(options.rounds(), options.duration());
      trials.keySet().forEach(name -> sheet.row(name, rounds.rate(name).map(Rate::nanosEach)));
    } finally {
      pool.shutdownNow();
    }
    sheet.charts.add(new Chart("nanoseconds", true, "what", List.of("ns")));
    sheet.conditions.add("one thread at a time");
    sheet.conditions.add(
        "in a pool and in new threads, another thread does the work and the first waits for it; a new thread finds its stream first");
    return sheet;
  }

  /** A call whose result is of no interest, but must not be optimized away. */
  private interface Call {
    Object make();
  }

  private interface OfStream {
    Call of(DeviceStream stream);
  }

  private interface OfEvent {
    boolean ask(DeviceEvent event);
  }

  private static Rounds.Trial call(Call call, Findings findings) {
    return new ThreadTrial(1, CALLS, () -> calls(call), findings);
  }

  private static Rounds.Trial onStream(Device device, OfStream maker, Findings findings) {
    return new ThreadTrial(1, CALLS, () -> calls(maker.of(device.streams().current())), findings);
  }

  private static Rounds.Trial onEvent(Device device, OfEvent ask, Findings findings) {
    return onStream(
        device,
        stream -> {
          DeviceEvent event = stream.record();
          event.await();
          return () -> ask.ask(event);
        },
        findings);
  }

  private static ThreadTrial.Job calls(Call call) {
    return new ThreadTrial.Job() {
      private int seen;

      @Override
      public void run() {
        for (int i = 0; i < CALLS; i++) {
          seen += call.make() == null ? 1 : 0;
        }
      }

      @Override
      public void close() {
        if (seen > 0) {
          throw new IllegalStateException("a call gave null");
        }
      }
    };
  }

  private interface Operation {
    void run() throws InterruptedException, ExecutionException;
  }

  private static Rounds.Trial operation(Operation operation, Findings findings) {
    return new ThreadTrial(
        1,
        1,
        () ->
            new ThreadTrial.Job() {
              @Override
              public void run() {
                try {
                  operation.run();
                } catch (InterruptedException | ExecutionException e) {
                  throw new IllegalStateException(e);
                }
              }

              @Override
              public void close() {}
            },
        findings);
  }

  private static Rounds.Trial whole(Products products, Findings findings) {
    return operation(products::whole, findings);
  }

  private static Rounds.Trial inPool(Products products, ExecutorService pool, Findings findings) {
    return operation(() -> pool.submit(products::whole).get(), findings);
  }

  private static Rounds.Trial inNewThreads(
      Products products, ThreadFactory factory, Findings findings) {
    return operation(
        () -> {
          Thread thread = factory.newThread(products::whole);
          thread.start();
          thread.join();
        },
        findings);
  }
}
