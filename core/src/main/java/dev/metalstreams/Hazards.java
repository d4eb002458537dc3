package dev.metalstreams;

import java.lang.StackWalker.StackFrame;
import java.lang.System.Logger.Level;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * The race detector of a device: whether work that touches memory comes after all earlier work that
 * it must come after.
 *
 * <h2>What comes after what</h2>
 *
 * An operation comes after the earlier ones of its stream; after those before an event that its
 * stream has waited for, and all that they come after; and after what the <em>host knows</em> to be
 * over. The host knows what a thread has waited for, or was told when it asked, through the API.
 * Since nobody sees how threads hand things over, what one knows counts for all. That the device
 * was fast counts for nothing: a race is found in every run that makes the same calls.
 *
 * <p>Memory starts anew with each buffer. What earlier tenants of a block have left under way, the
 * allocator orders ({@link DeviceStream#follow}).
 *
 * <h2>Invariants</h2>
 *
 * <ol>
 *   <li>A stream's stamp changes under the stream's lock, after the operation or the wait is
 *       encoded. So whoever reads the stamp and then {@code queued} gets a value at which all of
 *       the stamp is done.
 *   <li>An access is in the list of its memory before it is encoded (<em>claimed</em>), and stays
 *       there afterwards (<em>settled</em>: its stream's stamp counts it); if the encode fails, it
 *       leaves, and those whose place it took come back. It is claimed, by one step under the
 *       memory's monitor, only if it races with nothing in the list. So of two threads that encode
 *       on the same memory at once, the later to claim sees the other.
 *   <li>Whoever has to wait for a claim takes nothing along: it gives up its own claims and its
 *       stream's lock, flushes the other stream under that one's lock, which outlasts the claim,
 *       encodes the wait, and starts over. A retry means that another stream has encoded something,
 *       so somebody always gets on. It waits only for a value that is submitted: if the other's
 *       encode failed, its value may never come.
 *   <li>The host knows of an access only after it is settled, hence after the memory's {@link Uses}
 *       have it: a wait for the uses covers it.
 * </ol>
 */
class Hazards {
  /** Of the host, which has no place among streams. */
  static final Stamp HOST = new Stamp(-1, 0, Clock.ZERO);

  /** Operations of a stream whose call sites are all looked up. */
  private static final int ALL_SITES = 1000;

  /** Pairs of call sites that are told apart in the log. */
  private static final int MOST_TOLD = 1000;

  private static final StackWalker WALKER =
      StackWalker.getInstance(StackWalker.Option.RETAIN_CLASS_REFERENCE);

  /** Whether a class is of this package, or of the JDK: no user's frame. */
  private static final ClassValue<Boolean> INTERNAL =
      new ClassValue<>() {
        @Override
        protected Boolean computeValue(Class<?> type) {
          return type.getClassLoader() == null
              || (type.getPackageName().equals(Hazards.class.getPackageName())
                  && Objects.equals(
                      type.getProtectionDomain().getCodeSource(),
                      Hazards.class.getProtectionDomain().getCodeSource()));
        }
      };

  private record Caller(int stream, String operation) {}

  private final Device device;
  private final HazardMode mode;
  private final HazardReport report;
  private final int sample;

  private final AtomicReference<Clock> host = new AtomicReference<>(Clock.ZERO);
  private final AtomicLong races = new AtomicLong();
  private final AtomicLong waits = new AtomicLong();
  private final Map<Caller, StackFrame> lastSites = new ConcurrentHashMap<>();
  private final Set<String> told = ConcurrentHashMap.newKeySet();

  Hazards(Device device) {
    Settings settings = device.settings();
    this.device = device;
    this.mode = settings.hazards;
    this.report = settings.hazardReport;
    this.sample = settings.hazardSample;
  }

  // ---- the rules; tests replace one by a broken twin and must notice

  /** What something comes after that came after {@code clock} and has waited for a moment. */
  Clock after(Clock clock, Stamp awaited) {
    return clock.join(awaited.clock()).raise(awaited.stream(), awaited.position());
  }

  /** Whether two accesses to one memory must not be made at once. */
  boolean conflicts(Access earlier, Access later) {
    return (earlier.writes || later.writes)
        && earlier.overlaps(later)
        && earlier.by.stream != later.by.stream;
  }

  /** Whether an access comes after one that was claimed before. */
  boolean ordered(Access earlier, Access later) {
    if (earlier.by.stream == null) {
      return false; // a view, and it is open
    }
    Stamp stamp = earlier.by.stamp;
    return stamp.position() <= later.by.stamp.clock().at(stamp.stream())
        || stamp.position() <= later.by.host.at(stamp.stream())
        || (later.by.waits && earlier.by.isSettled());
  }

  /** Whether whoever comes after the later access need not be compared with the earlier. */
  boolean supersedes(Access later, Access earlier) {
    return later.covers(earlier)
        && (later.writes || !earlier.writes)
        && earlier.by.stream != null
        && (earlier.by.stream == later.by.stream || ordered(earlier, later));
  }

  /** Whether everybody comes after an access from now on. */
  boolean over(Access access) {
    return access.by.stream != null
        && access.by.stamp.position() <= host().at(access.by.stamp.stream());
  }

  // ---- what the host knows

  final Clock host() {
    return host.get();
  }

  /** A thread has seen that this moment of a stream is over. */
  final void observed(@Nullable Stamp moment) {
    if (moment != null) {
      host.updateAndGet(known -> after(known, moment));
    }
  }

  /** A thread has waited for all of this. */
  final void observed(Clock moment) {
    host.updateAndGet(known -> known.join(moment));
  }

  // ---- call sites

  /** An operation that is about to be encoded on a stream. */
  final Operation operation(String name, int accesses, DeviceStream stream) {
    Operation operation = new Operation(this, name, accesses);
    long position = stream.position();
    if (position < ALL_SITES || position % sample == 0) {
      StackFrame site = caller();
      operation.site = site;
      if (site != null && sample > 1) {
        lastSites.put(new Caller(stream.index(), name), site);
      }
    }
    return operation;
  }

  /** A view of a buffer. */
  final Operation view(String name, DeviceBuffer buffer, boolean writes, boolean waits) {
    Operation view = new Operation(this, name, 1);
    if (writes) {
      view.writes(buffer, 0, buffer.byteSize());
    } else {
      view.reads(buffer, 0, buffer.byteSize());
    }
    view.waits = waits;
    view.site = caller();
    view.open();
    return view;
  }

  private static @Nullable StackFrame caller() {
    return WALKER.walk(
        frames ->
            frames
                .dropWhile(frame -> INTERNAL.get(frame.getDeclaringClass()))
                .findFirst()
                .orElse(null));
  }

  // ---- reports

  final boolean orders() {
    return mode == HazardMode.ORDER;
  }

  /** A wait was added. */
  final void waitAdded() {
    waits.incrementAndGet();
  }

  /** Throws or logs. The calling thread is the one that makes the later access. */
  final void race(Access earlier, Access later) {
    races.incrementAndGet();
    if (later.by.site == null) {
      later.by.site = caller();
    }
    StreamRaceException race = new StreamRaceException(describe(earlier), describe(later));
    if (report == HazardReport.THROW) {
      throw race;
    }
    String pair = race.earlier().where() + " " + race.later().where();
    if (told.size() < MOST_TOLD && told.add(pair)) {
      device.log(Level.WARNING, String.valueOf(race.getMessage()), null);
    }
  }

  private StreamRaceException.Access describe(Access access) {
    Operation by = access.by;
    StackFrame site = by.site;
    boolean exact = site != null;
    if (site == null) {
      site = lastSites.get(new Caller(by.stamp.stream(), by.name));
    }
    return new StreamRaceException.Access(
        by.name,
        access.writes,
        by.stamp.stream(),
        by.value,
        access.from,
        access.to - access.from,
        site == null ? null : site.toStackTraceElement(),
        exact);
  }

  final HazardStats stats() {
    long operations = 0;
    for (DeviceStream stream : device.streams().all()) {
      operations += stream.position();
    }
    return new HazardStats(mode, operations, races.get(), waits.get());
  }
}
