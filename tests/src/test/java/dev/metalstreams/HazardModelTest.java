package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;

import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The race detector beside an oracle, on random programs. The oracle draws a graph of what comes
 * directly after what and looks whether there is a way; it knows nothing of clocks, keeps
 * everything, and forgets nothing. Detector and oracle must agree on every single operation.
 */
@Timeout(120)
class HazardModelTest extends CoreTest {
  private static final int PROGRAMS = 1500;
  private static final int STEPS = 80;
  private static final int STREAMS = 4;
  private static final int BUFFERS = 3;
  private static final int BYTES = 16;
  private static final int ELEMENTS = BYTES / 4;

  // ---- the oracle

  private static final class Order {
    private final List<List<Integer>> before = new ArrayList<>();

    /** A new node, directly after others; negative numbers are none. */
    int after(List<Integer> nodes) {
      before.add(nodes.stream().filter(node -> node >= 0).toList());
      return before.size() - 1;
    }

    int after(int first, int second) {
      return after(List.of(first, second));
    }

    /** Whether there is a way from a node back to another. */
    boolean comesAfter(int later, int earlier) {
      BitSet seen = new BitSet();
      List<Integer> open = new ArrayList<>(List.of(later));
      while (!open.isEmpty()) {
        int node = open.removeLast();
        if (node == earlier) {
          return true;
        }
        if (node >= 0 && !seen.get(node)) {
          seen.set(node);
          open.addAll(before.get(node));
        }
      }
      return false;
    }
  }

  private record Touch(int node, int stream, boolean writes, int from, int to) {
    boolean conflicts(Touch other) {
      return (writes || other.writes)
          && stream != other.stream
          && from < other.to
          && other.from < to;
    }
  }

  private record Event(DeviceEvent event, int node) {}

  private record View(HostView view, boolean writes) {}

  /** A tensor, what touched it, and who looks at it. */
  private static final class Memory {
    final Tensor tensor;
    final List<Touch> touches = new ArrayList<>();
    final List<View> views = new ArrayList<>();

    /** Work on it was cancelled: who looks at it is told so. */
    boolean spoilt;

    Memory(Tensor tensor) {
      this.tensor = tensor;
    }

    DeviceBuffer buffer() {
      return tensor.buffer();
    }
  }

  /** What one operation does to one memory. */
  private record Use(Memory memory, boolean writes, int from, int to) {}

  // ---- the program

  private static final class Run {
    private final Random random;
    private final Device device;
    private final Executable relu;
    private final Order order = new Order();
    private final int[] last = new int[STREAMS];
    private final List<List<Integer>> operations = new ArrayList<>();
    private int host = -1;
    private final Memory[] memories = new Memory[BUFFERS];

    /** Where each stream puts what it reads; no other touches it. */
    private final Memory[] own = new Memory[STREAMS];

    private final List<Event> events = new ArrayList<>();

    /** Else only events make order, and what is long past still matters. */
    private final boolean hostLooks;

    private int races;
    private @Nullable String disagreement;

    Run(long seed, Device device) {
      this.random = new Random(seed);
      this.hostLooks = random.nextInt(3) > 0;
      this.device = device;
      this.relu =
          device.compile(
              Graph.build(g -> g.output("y", g.relu(g.input("x", DType.F32, ELEMENTS)))));
      Arrays.fill(last, -1);
      for (int i = 0; i < STREAMS; i++) {
        operations.add(new ArrayList<>());
        own[i] = allocate();
      }
      for (int i = 0; i < BUFFERS; i++) {
        memories[i] = allocate();
      }
    }

    private Memory allocate() {
      return new Memory(
          device.empty(stream(random.nextInt(STREAMS)), DType.F32, Shape.of(ELEMENTS)));
    }

    private DeviceStream stream(int index) {
      return device.streams().stream(index);
    }

    /** Where detector and oracle disagree, or null. */
    @Nullable String run() {
      for (int step = 0; step < STEPS && disagreement == null; step++) {
        step();
      }
      for (Memory memory : memories) {
        close(memory);
      }
      for (Memory memory : own) {
        close(memory);
      }
      relu.close();
      return disagreement;
    }

    private void step() {
      int on = random.nextInt(STREAMS);
      DeviceStream stream = stream(on);
      Memory one = memories[random.nextInt(BUFFERS)];
      Memory other = memories[random.nextInt(BUFFERS)];
      switch (random.nextInt(hostLooks ? 30 : 25)) {
        case 0, 1, 2, 3 -> {
          int from = random.nextInt(BYTES);
          int to = from + 1 + random.nextInt(BYTES - from);
          work(
              on,
              () -> stream.fill(one.buffer(), from, to - from, (byte) 0),
              new Use(one, true, from, to));
        }
        case 4, 5, 6, 7 -> {
          int length = 1 + random.nextInt(BYTES / 2);
          int from = random.nextInt(BYTES / 2 - length + 1);
          int to = BYTES / 2 + random.nextInt(BYTES / 2 - length + 1);
          work(
              on,
              () -> stream.copy(one.buffer(), from, other.buffer(), to, length),
              new Use(one, false, from, from + length),
              new Use(other, true, to, to + length));
        }
        case 8, 9 -> {
          if (one != other) {
            work(
                on,
                () -> relu.runInto(stream, List.of(one.tensor), List.of(other.tensor)),
                new Use(one, false, 0, BYTES),
                new Use(other, true, 0, BYTES));
          }
        }
        case 10, 11, 12 -> {
          Event event =
              new Event(random.nextInt(8) == 0 ? stream.recordTimed() : stream.record(), last[on]);
          if (!isCancelled(event)) {
            events.add(event);
          }
        }
        case 13, 14, 15, 16, 22, 23 -> {
          Event event = event();
          if (event != null && event.event.stream() != stream) {
            stream.waitFor(event.event);
            last[on] = order.after(last[on], event.node);
          }
        }
        case 25 -> {
          Event event = event();
          if (event != null && observe(event.event)) {
            host = order.after(host, event.node);
          }
        }
        case 26 -> {
          if (random.nextInt(3) > 0) {
            stream.flush();
          }
          if (stream.query()) {
            host = order.after(host, last[on]);
          }
        }
        case 27 -> {
          if (random.nextInt(4) == 0) {
            device.synchronize();
            for (int node : last) {
              host = order.after(host, node);
            }
          } else {
            stream.synchronize();
            host = order.after(host, last[on]);
          }
        }
        case 28, 29 -> {
          if (!one.spoilt) {
            look(one);
          }
        }
        case 17 -> {
          if (!one.views.isEmpty()) {
            one.views.removeLast().view.close();
          }
        }
        case 18, 19 -> cancel(on);
        case 20, 21 ->
            work(
                on,
                () -> stream.copy(one.buffer(), 0, own[on].buffer(), 0, BYTES),
                new Use(one, false, 0, BYTES),
                new Use(own[on], true, 0, BYTES));
        default -> {
          if (random.nextInt(3) == 0) {
            close(one);
            memories[Arrays.asList(memories).indexOf(one)] = allocate();
          }
        }
      }
    }

    /** Rather a late one than an early one. */
    private @Nullable Event event() {
      int most = random.nextBoolean() ? Math.min(4, events.size()) : events.size();
      return most == 0 ? null : events.get(events.size() - 1 - random.nextInt(most));
    }

    private boolean observe(DeviceEvent event) {
      switch (random.nextInt(4)) {
        case 0 -> event.await();
        case 1 -> event.toFuture().join();
        default -> {
          return event.query();
        }
      }
      return true;
    }

    private void work(int on, Runnable encode, Use... uses) {
      int node = order.after(last[on], host);
      boolean race = false;
      for (Use use : uses) {
        Touch mine = new Touch(node, on, use.writes, use.from, use.to);
        for (Touch earlier : use.memory.touches) {
          race |= earlier.conflicts(mine) && !order.comesAfter(node, earlier.node);
        }
        for (View view : use.memory.views) {
          race |= view.writes || use.writes;
        }
      }
      agree(race, encode);
      if (!race) {
        last[on] = node;
        operations.get(on).add(node);
        for (Use use : uses) {
          use.memory.touches.add(new Touch(node, on, use.writes, use.from, use.to));
        }
      }
    }

    /** What is cancelled has touched nothing. The waits before it stand. */
    private void cancel(int on) {
      List<Integer> mine = operations.get(on);
      int count = stream(on).cancel();
      List<Integer> cancelled = mine.subList(mine.size() - count, mine.size());
      for (Memory memory : memories) {
        memory.spoilt |= memory.touches.removeIf(touch -> cancelled.contains(touch.node));
      }
      events.removeIf(Run::isCancelled);
      cancelled.clear();
    }

    private static boolean isCancelled(Event event) {
      return event.event.stream().timeline().failureAt(event.event.value()) != null;
    }

    private void look(Memory memory) {
      switch (random.nextInt(5)) {
        case 0 -> {
          boolean race = false;
          for (Touch touch : memory.touches) {
            race |= !order.comesAfter(host, touch.node);
          }
          agree(race, () -> memory.buffer().mapUnsafe().close());
        }
        case 1 -> {
          memory.tensor.toFloats();
          waitedFor(memory);
        }
        case 2 -> {
          memory.tensor.write(new float[ELEMENTS]);
          waitedFor(memory);
        }
        case 3 -> {
          memory.views.add(new View(memory.buffer().map(), true));
          waitedFor(memory);
        }
        default -> {
          memory.views.add(new View(memory.buffer().mapReadOnly(), false));
          waitedFor(memory);
        }
      }
    }

    private void waitedFor(Memory memory) {
      for (Touch touch : memory.touches) {
        host = order.after(host, touch.node);
      }
    }

    private void close(Memory memory) {
      memory.views.forEach(view -> view.view.close());
      memory.tensor.close();
    }

    private void agree(boolean race, Runnable call) {
      boolean thrown = false;
      try {
        call.run();
      } catch (StreamRaceException e) {
        thrown = true;
      }
      races += race ? 1 : 0;
      if (thrown != race) {
        disagreement = thrown ? "a race that is none" : "a race that is not found";
      }
    }
  }

  /** How many programs of so many lead to a disagreement, and whether there were races at all. */
  private int disagreements(Parts parts, int programs, boolean stop) {
    int count = 0;
    int races = 0;
    for (int seed = 0; seed < programs && (count == 0 || !stop); seed++) {
      Script script = Script.immediate();
      Device device =
          open(
              script,
              builder ->
                  builder
                      .hazards(HazardMode.DETECT)
                      .hazardSample(1_000_000)
                      .poolSize(STREAMS)
                      .parts(parts));
      Run run = new Run(seed, device);
      count += run.run() == null ? 0 : 1;
      races += run.races;
      device.close();
      forget(device);
      assertThat(script.violations()).isEmpty();
    }
    assertThat(stop || races > programs).as("enough races to judge: %d", races).isTrue();
    return count;
  }

  @Test
  void detectorAndOracleAgreeOnEveryOperation() {
    assertThat(disagreements(new Parts(), PROGRAMS, false)).isZero();
  }

  // ---- broken twins

  record Twin(String name, Function<Device, Hazards> make) {
    Parts parts() {
      return new Parts() {
        @Override
        Hazards hazards(Device device) {
          return make.apply(device);
        }
      };
    }

    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Twin> twins() {
    return Stream.of(
        new Twin(
            "forgets what the awaited stream had waited for",
            device ->
                new Hazards(device) {
                  @Override
                  Clock after(Clock clock, Stamp awaited) {
                    return clock.raise(awaited.stream(), awaited.position());
                  }
                }),
        new Twin(
            "takes the present clock of the awaited stream, not that of the event",
            device ->
                new Hazards(device) {
                  @Override
                  Clock after(Clock clock, Stamp awaited) {
                    Stamp now = device.streams().stream(awaited.stream()).here().stamp();
                    return super.after(clock, now == null ? awaited : now);
                  }
                }),
        new Twin(
            "forgets reads",
            device ->
                new Hazards(device) {
                  @Override
                  boolean supersedes(Access later, Access earlier) {
                    return (earlier.by.stream != null && !earlier.writes)
                        || super.supersedes(later, earlier);
                  }
                }),
        new Twin(
            "forgets a read when another stream reads too",
            device ->
                new Hazards(device) {
                  @Override
                  boolean supersedes(Access later, Access earlier) {
                    return earlier.by.stream != null
                        && later.covers(earlier)
                        && (later.writes || !earlier.writes);
                  }
                }),
        new Twin(
            "forgets the rest of what is written in part",
            device ->
                new Hazards(device) {
                  @Override
                  boolean supersedes(Access later, Access earlier) {
                    return (earlier.by.stream != null && later.writes && later.overlaps(earlier))
                        || super.supersedes(later, earlier);
                  }
                }),
        new Twin(
            "forgets a write when it is read",
            device ->
                new Hazards(device) {
                  @Override
                  boolean supersedes(Access later, Access earlier) {
                    return earlier.by.stream != null
                        && later.covers(earlier)
                        && ordered(earlier, later);
                  }
                }),
        new Twin(
            "forgets what the device has done",
            device ->
                new Hazards(device) {
                  @Override
                  boolean over(Access access) {
                    DeviceStream stream = access.by.stream;
                    return stream != null && stream.timeline().reached(access.by.value);
                  }
                }),
        new Twin(
            "trusts in a fast device",
            device ->
                new Hazards(device) {
                  @Override
                  boolean ordered(Access earlier, Access later) {
                    DeviceStream stream = earlier.by.stream;
                    return super.ordered(earlier, later)
                        || (stream != null && stream.timeline().reached(earlier.by.value));
                  }
                }),
        new Twin(
            "does not see open views",
            device ->
                new Hazards(device) {
                  @Override
                  boolean conflicts(Access earlier, Access later) {
                    return earlier.by.stream != null && super.conflicts(earlier, later);
                  }
                }),
        new Twin(
            "takes whole buffers",
            device ->
                new Hazards(device) {
                  @Override
                  boolean conflicts(Access earlier, Access later) {
                    return (earlier.writes || later.writes) && earlier.by.stream != later.by.stream;
                  }
                }),
        new Twin(
            "does not listen to the host",
            device ->
                new Hazards(device) {
                  @Override
                  boolean ordered(Access earlier, Access later) {
                    Stamp stamp = earlier.by.stamp;
                    return earlier.by.stream != null
                        && (later.by.waits
                            || stamp.position() <= later.by.stamp.clock().at(stamp.stream()));
                  }
                }));
  }

  @ParameterizedTest
  @MethodSource("twins")
  void aBrokenTwinDisagrees(Twin twin) {
    assertThat(disagreements(twin.parts(), PROGRAMS, true)).isPositive();
  }

  // ---- order

  /** Careless programs, and what they give when everything runs in the order of the calls. */
  private boolean sameAsInOrder(long seed, HazardMode mode) {
    Random random = new Random(seed);
    Script script = Script.manual();
    Device device =
        open(script, builder -> builder.hazards(mode).poolSize(STREAMS).maxInFlight(60));
    DeviceBuffer[] buffers = new DeviceBuffer[BUFFERS];
    byte[][] expected = new byte[BUFFERS][BYTES];
    for (int i = 0; i < BUFFERS; i++) {
      buffers[i] = device.allocate(BYTES, device.streams().stream(i));
      write(buffers[i], 0);
    }
    List<DeviceEvent> events = new ArrayList<>();
    for (int step = 0; step < STEPS; step++) {
      DeviceStream stream = device.streams().stream(random.nextInt(STREAMS));
      int one = random.nextInt(BUFFERS);
      int other = random.nextInt(BUFFERS);
      int length = 1 + random.nextInt(BYTES / 2);
      int from = random.nextInt(BYTES / 2 - length + 1);
      int to = BYTES / 2 + random.nextInt(BYTES / 2 - length + 1);
      switch (random.nextInt(8)) {
        case 0, 1, 2 -> {
          stream.fill(buffers[one], from, length, (byte) step);
          Arrays.fill(expected[one], from, from + length, (byte) step);
        }
        case 3, 4, 5 -> {
          stream.copy(buffers[one], from, buffers[other], to, length);
          System.arraycopy(expected[one], from, expected[other], to, length);
        }
        case 6 -> events.add(stream.record());
        default -> {
          if (!events.isEmpty() && random.nextInt(4) == 0) {
            stream.waitFor(events.get(random.nextInt(events.size())));
          } else if (random.nextInt(4) == 0) {
            script.runRandomly(random.nextLong());
          }
        }
      }
    }
    for (int i = 0; i < STREAMS; i++) {
      device.streams().stream(i).flush();
    }
    script.runRandomly(seed);
    boolean same = true;
    for (int i = 0; i < BUFFERS; i++) {
      try (HostView view = buffers[i].map()) {
        byte[] found = new byte[BYTES];
        view.bytes().get(found);
        same &= Arrays.equals(found, expected[i]);
      }
    }
    script.letRun();
    device.close();
    forget(device);
    assertThat(script.violations()).isEmpty();
    return same;
  }

  @Test
  void orderMakesCarelessProgramsRight() {
    int without = 0;
    for (int seed = 0; seed < 400; seed++) {
      assertThat(sameAsInOrder(seed, HazardMode.ORDER)).as("seed %d", seed).isTrue();
      without += sameAsInOrder(seed, HazardMode.OFF) ? 0 : 1;
    }
    assertThat(without).as("wrong results without it").isGreaterThan(200);
  }
}
