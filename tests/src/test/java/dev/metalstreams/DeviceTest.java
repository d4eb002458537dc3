package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import dev.metalstreams.driver.DriverException;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Halt;
import dev.metalstreams.script.Script;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.Test;

/** The device: opening, synchronizing all of it, failures that travel, closing. */
class DeviceTest extends CoreTest {
  private final Script script = Script.manual();
  private final Device device = open(script);
  private final DeviceStream a = device.streams().stream(1);
  private final DeviceStream b = device.streams().stream(2);
  private final DeviceStream c = device.streams().stream(3);

  private DeviceBuffer filled(DeviceStream stream) {
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    return buffer;
  }

  // ---- open

  @Test
  void opensWithWhatItWasAskedFor() {
    Script asked = Script.immediate();
    open(asked, builder -> builder.backend("host").workers(3).mathLibrary("builtin"));
    assertThat(asked.options())
        .isEqualTo(new dev.metalstreams.driver.DriverOptions("host", "", 3, "builtin"));
  }

  @Test
  void saysWhyThereIsNone() {
    assertThatExceptionOfType(DeviceUnavailableException.class)
        .isThrownBy(
            () ->
                Device.builder()
                    .driver(
                        options -> {
                          throw new DriverException(Status.NO_DEVICE, "buy one");
                        })
                    .open())
        .withMessageContaining("buy one");
  }

  @Test
  void closesADriverThatItCannotUse() {
    Script broken = Script.immediate();
    assertThatExceptionOfType(IllegalStateException.class)
        .isThrownBy(
            () ->
                Device.builder()
                    .driver(broken.provider())
                    .parts(
                        new Parts() {
                          @Override
                          Allocator allocator(Device device) {
                            throw new IllegalStateException("planned");
                          }
                        })
                    .open());
    assertThat(broken.closed()).isTrue();
  }

  // ---- synchronize

  @Test
  void synchronizesEveryStream() throws Exception {
    for (DeviceStream stream : List.of(a, b, c)) {
      filled(stream); // nothing is submitted yet
    }
    Background<Boolean> waiter = Background.run(() -> device.synchronize());
    for (DeviceStream stream : List.of(a, b, c)) {
      script.awaitCommitted(stream.id(), 1);
    }
    for (DeviceStream stream : List.of(c, a)) {
      script.run(stream.id());
      assertThat(waiter.untilParked().over()).isFalse();
    }
    script.run(b.id());
    waiter.get();
  }

  @Test
  void synchronizesWhatCameBeforeTheCall() throws Exception {
    filled(a);
    a.flush();
    Background<Boolean> waiter = Background.run(() -> device.synchronize()).untilParked();
    filled(a);
    a.flush();
    script.run(a.id());
    waiter.get();
    assertThat(a.query()).isFalse();
  }

  @Test
  void synchronizesForNoLongerThanAsked() {
    filled(a);
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> device.synchronize(Duration.ZERO));
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(() -> device.synchronize(Duration.ofMillis(1)));
    script.runAll();
    device.synchronize(Duration.ofSeconds(20));
  }

  @Test
  void collectsTheFailuresOfAllStreamsAndWaitsForAllTheSame() throws Exception {
    for (DeviceStream stream : List.of(a, b, c)) {
      filled(stream);
    }
    script.fail(a.id(), Status.EXECUTION, "first fault");
    script.fail(b.id(), Status.OUT_OF_MEMORY, "second fault");
    Background<Boolean> waiter =
        Background.run(
            () ->
                assertThatExceptionOfType(StreamFailedException.class)
                    .isThrownBy(device::synchronize)
                    .withMessageContaining("first fault")
                    .satisfies(
                        failure -> {
                          assertThat(failure.getSuppressed()).hasSize(1);
                          assertThat(failure.getSuppressed()[0])
                              .isInstanceOf(StreamFailedException.class)
                              .hasMessageContaining("second fault");
                        }));
    for (DeviceStream stream : List.of(a, b, c)) {
      script.awaitCommitted(stream.id(), 1);
    }
    script.run(a.id());
    script.run(b.id());
    waiter.untilParked();
    assertThat(waiter.over()).as("c is still under way").isFalse();
    script.run(c.id());
    waiter.get();
  }

  // ---- failures

  @Test
  void aFailureTravelsAlongEventsWithItsCause() throws Exception {
    filled(a);
    b.waitFor(a.record());
    filled(b);
    c.waitFor(b.record());
    DeviceBuffer last = device.allocate(8, c);
    write(last, 9);
    c.fill(last, (byte) 1);
    c.flush();
    DeviceEvent ofC = c.record();
    Background<StreamFailedException> waiter =
        Background.call(
                () -> {
                  try {
                    ofC.await();
                    throw new AssertionError("must fail");
                  } catch (StreamFailedException e) {
                    return e;
                  }
                })
            .untilParked();
    script.fail(a.id(), Status.EXECUTION, "page fault");
    script.runAll();
    Throwable seen = waiter.get();
    assertThat(peek(last)).as("work after a failed wait").isEqualTo((byte) 9);
    List<StreamFailedException> chain = new ArrayList<>();
    for (Throwable each = seen; each != null; each = each.getCause()) {
      assertThat(each).isInstanceOf(StreamFailedException.class);
      chain.add((StreamFailedException) each);
    }
    assertThat(chain.getFirst().status()).isEqualTo(Status.DEPENDENCY);
    assertThat(chain.getFirst().streamIndex()).isEqualTo(3);
    assertThat(chain.getLast().status()).isEqualTo(Status.EXECUTION);
    assertThat(chain.getLast().streamIndex()).isEqualTo(1);
    assertThat(chain.getLast().value()).isEqualTo(1);
    assertThat(chain.getLast()).hasMessageContaining("page fault");
    for (DeviceStream failed : List.of(a, b, c)) {
      assertThatExceptionOfType(StreamFailedException.class).isThrownBy(failed::synchronize);
      failed.reset();
      filled(failed);
      failed.flush();
    }
    script.runAll();
    device.synchronize();
  }

  @Test
  void waitingForAFailedEventThrowsAtOnce() {
    filled(a);
    a.flush();
    DeviceEvent event = a.record();
    script.fail(a.id(), Status.EXECUTION, "page fault");
    script.runAll();
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(event::await);
    assertThat(event.query()).as("complete, in failure").isTrue();
    assertThatExceptionOfType(StreamFailedException.class)
        .isThrownBy(() -> b.waitFor(event))
        .withMessageContaining("page fault");
    filled(b);
    b.flush();
    script.runAll();
    b.synchronize(); // b did not wait, and is healthy
  }

  @Test
  void aWaiterNeverHangsWhateverFails() throws Exception {
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (DeviceStream stream : List.of(a, b, c)) {
      for (int i = 0; i < 10; i++) {
        filled(stream);
        stream.flush();
        DeviceEvent event = stream.record();
        Background.Work wait =
            () -> {
              try {
                event.await();
              } catch (StreamFailedException e) {
                assertThat(e).hasMessageContaining("fault");
              }
            };
        waiters.add(i % 2 == 0 ? Background.run(wait) : Background.runVirtually(wait));
      }
      for (int i = 0; i < 3; i++) {
        script.fail(stream.id(), Status.EXECUTION, "fault " + i);
      }
    }
    script.runRandomly(5);
    for (Background<Boolean> waiter : waiters) {
      waiter.get();
    }
  }

  @Test
  void everyWaitFailsWhenTheCompletionThreadDies() throws Exception {
    filled(a);
    a.flush();
    filled(b);
    b.flush();
    DeviceEvent timed = c.recordTimed();
    Background<Boolean> waiter =
        Background.run(
                () ->
                    assertThatExceptionOfType(MetalStreamsException.class)
                        .isThrownBy(() -> a.synchronize())
                        .withMessageContaining("lost"))
            .untilParked();
    script.intercept(
        "nextCompletions",
        () -> {
          throw new IllegalStateException("planned death");
        });
    device.driver().wake();
    waiter.get();
    assertThatExceptionOfType(MetalStreamsException.class)
        .isThrownBy(device::synchronize)
        .withMessageContaining("lost");
    assertThatExceptionOfType(DeviceLostException.class)
        .as("nobody would tell a new stream of its completions")
        .isThrownBy(() -> device.streams().stream(5))
        .withMessageContaining("lost");
    script.runAll();
    assertThatExceptionOfType(MetalStreamsException.class)
        .as("its times will never come")
        .isThrownBy(() -> DeviceEvent.elapsed(timed, timed));
    assertThat(takeComplaints()).hasSize(1).first().asString().contains("completion thread");
  }

  // ---- virtual threads

  @Test
  void virtualThreadsWaitWithoutBlockingTheirCarrier() throws Exception {
    Script waiting = Script.manualBuilder().canAwait().build();
    Device on = open(waiting);
    DeviceStream stream = on.streams().stream(1);
    stream.fill(on.allocate(8, stream), (byte) 1);
    stream.flush();
    DeviceEvent event = stream.record();
    List<Background<Boolean>> waiters = new ArrayList<>();
    for (int i = 0; i < 50; i++) { // more than there are carriers
      waiters.add(Background.runVirtually(event::await).untilParked());
    }
    assertThat(waiters).noneMatch(Background::over);
    waiting.runAll();
    for (Background<Boolean> waiter : waiters) {
      waiter.get();
    }
    assertThat(waiting.violations()).isEmpty();
  }

  @Test
  void virtualThreadsUseTheWholeDevice() throws Exception {
    Script automatic = Script.automaticBuilder().canAwait().build();
    Device on = open(automatic);
    Graph graph =
        Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 2);
              g.output("y", g.add(x, x));
            });
    Executable exe = on.compile(graph);
    List<Background<Boolean>> workers = new ArrayList<>();
    for (int i = 0; i < 100; i++) {
      int of = i;
      workers.add(
          Background.runVirtually(
              () -> {
                try (Tensor x = on.tensor(new float[] {of, -of}, 2);
                    Tensor y = exe.run(x)) {
                  assertThat(y.toFloats()).containsExactly(2 * of, -2 * of);
                }
                on.streams().current().synchronize();
              }));
    }
    for (Background<Boolean> worker : workers) {
      worker.get();
    }
    Background.runVirtually(on::close).get();
    assertThat(automatic.violations()).isEmpty();
  }

  // ---- close

  @Test
  void closesInOrder() throws Exception {
    List<String> calls = Collections.synchronizedList(new ArrayList<>());
    Executable exe = device.compile(layer(1, 1, 1));
    DeviceBuffer open = filled(a);
    filled(b).close(); // not even submitted
    for (String method :
        List.of("commit", "destroyBuffer", "destroyExecutable", "destroyQueue", "close", "wake")) {
      script.intercept(method, () -> calls.add(method));
    }
    Background<Boolean> closer = Background.run(device::close);
    script.awaitCommitted(a.id(), 1);
    script.awaitCommitted(b.id(), 1);
    closer.untilParked();
    assertThat(closer.over()).as("drains first").isFalse();
    assertThat(device.isClosed()).isTrue();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> device.allocate(8));
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(() -> filled(a));
    script.runAll();
    closer.get();
    assertThat(calls.subList(0, 3)).containsExactly("commit", "commit", "wake");
    assertThat(calls).endsWith("close");
    assertThat(calls)
        .containsOnlyOnce("close", "destroyExecutable")
        .contains("destroyBuffer", "destroyQueue");
    assertThat(open.isClosed()).isTrue();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(open::map);
    exe.close();
    open.close();
    device.close();
    assertThat(calls).containsOnlyOnce("close", "destroyExecutable");
  }

  @Test
  void aSecondCloserWaitsForTheFirst() throws Exception {
    filled(a);
    Background<Boolean> first = Background.run(device::close);
    script.awaitCommitted(a.id(), 1);
    Background<Boolean> second = Background.run(device::close).untilParked();
    first.untilParked();
    assertThat(second.over()).isFalse();
    script.runAll();
    first.get();
    second.get();
    assertThat(script.closed()).isTrue();
  }

  @Test
  void aCloseGivesUpAfterItsTimeAndKeepsWhatTheDeviceMayStillWrite() {
    Script stuck = Script.manual();
    Device on = open(stuck, builder -> builder.closeTimeout(Duration.ofMillis(1)));
    forget(on);
    DeviceStream stream = on.streams().stream(1);
    stream.fill(on.allocate(8, stream), (byte) 1);
    assertThatExceptionOfType(WaitTimeoutException.class)
        .isThrownBy(on::close)
        .withMessageContaining("stream 1");
    assertThat(stuck.buffers()).isEqualTo(1);
    assertThat(stuck.violations()).isEmpty();
    on.close();
    assertThatExceptionOfType(DeviceClosedException.class).isThrownBy(on::synchronize);
  }

  @Test
  void aCloseKeepsAnInterruptForLater() throws Exception {
    filled(a);
    Background<Boolean> closer =
        Background.run(
            () -> {
              device.close();
              assertThat(Thread.currentThread().isInterrupted()).isTrue();
            });
    closer.thread().interrupt();
    script.awaitCommitted(a.id(), 1);
    script.runAll();
    closer.get();
    assertThat(script.closed()).isTrue();
  }

  @Test
  void aCloseDoesNotReportFailedWork() {
    filled(a);
    a.flush();
    script.fail(a.id(), Status.EXECUTION, "page fault");
    script.runAll();
    device.close();
    assertThat(script.closed()).isTrue();
  }

  @Test
  void threadsThatWorkWhileTheDeviceClosesAreToldSo() throws Exception {
    for (int round = 0; round < 20; round++) {
      Script automatic = Script.automatic();
      Device on = open(automatic);
      CountDownLatch started = new CountDownLatch(4);
      List<Background<Boolean>> workers = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        workers.add(
            Background.run(
                () -> {
                  try {
                    while (true) {
                      DeviceStream stream = on.streams().current();
                      try (DeviceBuffer buffer = on.allocate(64)) {
                        stream.fill(buffer, (byte) 1);
                        started.countDown();
                        stream.synchronize();
                      }
                    }
                  } catch (DeviceClosedException | IllegalStateException e) {
                    assertThat(e).hasMessageContaining("closed");
                  }
                }));
      }
      started.await();
      on.close();
      for (Background<Boolean> worker : workers) {
        worker.get();
      }
    }
  }

  @Test
  void aCompilationThatMeetsTheCloseLeaksNothing() throws Exception {
    Halt halt = script.halt("compile");
    Background<Executable> compiler = Background.call(() -> device.compile(layer(1, 1, 1)));
    halt.awaitReached();
    Background<Boolean> closer = Background.run(device::close);
    halt.end();
    closer.get();
    try {
      compiler.get().close();
    } catch (DeviceClosedException e) {
      assertThat(e).hasMessageContaining("closed");
    } catch (ExecutionException e) {
      throw new AssertionError(e);
    }
  }
}
