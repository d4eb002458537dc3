package dev.metalstreams;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import dev.metalstreams.MemoryEvent.Kind;
import dev.metalstreams.MemoryStats.Metric;
import dev.metalstreams.MemoryStats.Pool;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Pressure, limits and bookkeeping of the allocator, one thing at a time. */
class AllocatorTest extends CoreTest {
  private static final long MIB = 1 << 20;
  private static final long RECOMMENDED = 1L << 30; // of a scripted device

  private final Script script = Script.manualBuilder().canAwait().build();

  /** A device that completes nothing and has no tick but by {@link #drain}. */
  private Device open(UnaryOperator<Device.Builder> with) {
    Parts parts =
        new Parts() {
          @Override
          boolean completionThread() {
            return false;
          }
        };
    return open(script, builder -> with.apply(builder.parts(parts)));
  }

  private Device open() {
    return open(builder -> builder);
  }

  private Device openWithLimits(long soft, long hard, StealPolicy policy) {
    return open(
        builder ->
            builder
                .memoryRatios((double) soft / RECOMMENDED, (double) hard / RECOMMENDED)
                .steal(policy));
  }

  private void drain(Device device) {
    script.runAll();
    device.completions().drain(0);
  }

  /** Who waits makes the device run. */
  private void runWhenWaitedFor() {
    script.intercept("awaitValue", script::runAll);
  }

  /** A closed block of a stream, with a fill under way. */
  private static long closeInFlight(Device device, DeviceStream stream, long bytes) {
    DeviceBuffer buffer = device.allocate(bytes, stream);
    stream.fill(buffer, 0, 1, (byte) 1);
    stream.flush();
    long handle = buffer.handle();
    buffer.close();
    return handle;
  }

  // ---- sizes

  @Test
  void everySizeGetsTheLeastClassThatHoldsIt() {
    long least = 0;
    for (int sizeClass = 0; sizeClass < SizeClasses.COUNT; sizeClass++) {
      long size = SizeClasses.size(sizeClass);
      assertThat(size).isGreaterThan(least);
      assertThat(SizeClasses.of(least + 1)).isEqualTo(sizeClass);
      assertThat(SizeClasses.of(size)).isEqualTo(sizeClass);
      if (least >= 4096) {
        assertThat((double) (size - least - 1) / size).as("waste").isLessThan(0.125);
      }
      assertThat(size % Long.BYTES).isZero();
      least = size;
    }
    assertThat(least).isEqualTo(256 * MIB);
    assertThat(SizeClasses.of(least + 1)).isEqualTo(SizeClasses.HUGE);
    assertThat(Block.pool(MIB)).isEqualTo(Ledger.SMALL);
    assertThat(Block.pool(MIB + 1)).isEqualTo(Ledger.LARGE);
    assertThat(SizeClasses.hugeSize(least + 1)).isEqualTo(least + 16 * 1024);
    assertThat(SizeClasses.hugeSize(least + 16 * 1024)).isEqualTo(least + 16 * 1024);
    assertThat(SizeClasses.hugeSize(least + 16 * 1024 + 1)).isEqualTo(least + 32 * 1024);
  }

  @ParameterizedTest
  @ValueSource(longs = {Long.MAX_VALUE, Long.MAX_VALUE - 16383, 100L << 30})
  void aRequestBeyondTheLargestBufferSaysSo(long bytes) {
    Device device = open();
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(bytes))
        .withMessageContaining("cannot allocate " + bytes + " bytes")
        .withMessageContaining("allocated 0, active 0, reserved 0, limit ")
        .withMessageContaining("largest free block 0 bytes")
        .withMessageContaining("split the tensor");
    assertThat(device.memory().stats().outOfMemories()).isEqualTo(1);
    assertThat(device.memory().stats().retries()).isZero();
  }

  @ParameterizedTest
  @ValueSource(longs = {0, -1, Long.MIN_VALUE})
  void aBufferHasAtLeastOneByte(long bytes) {
    Device device = open();
    assertThatIllegalArgumentException()
        .isThrownBy(() -> device.allocate(bytes))
        .withMessageContaining("at least 1 byte, not " + bytes);
    assertThat(script.buffers()).isZero();
  }

  @Test
  void aRequestThatTheDeviceWouldTakeIsNotToldToBeSplit() {
    Device device = openWithLimits(RECOMMENDED, RECOMMENDED, StealPolicy.NEVER);
    script.memoryLimit(1000);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(RECOMMENDED)) // just the largest buffer
        .withMessageContaining("Close buffers");
  }

  @Test
  void theLargestFreeBlockIsTold() {
    Device device = open();
    try (DeviceBuffer larger = device.allocate(4000)) {
      device.allocate(1000).close();
      device.allocate(500).close();
      assertThatExceptionOfType(OutOfDeviceMemoryException.class)
          .isThrownBy(() -> device.allocate(100L << 30))
          .withMessageContaining("largest free block 1024 bytes");
      assertThat(larger.isClosed()).isFalse();
    }
  }

  @Test
  void aRequestThatOnlyItsRoundingMakesTooLargeIsServed() {
    Device device = openWithLimits(3 * MIB, 3 * MIB + 512, StealPolicy.NEVER);
    try (DeviceBuffer buffer = device.allocate(3 * MIB + 400)) {
      assertThat(buffer.byteSize()).isEqualTo(3 * MIB + 400);
      assertThat(device.memory().stats().reserved()).isEqualTo(3 * MIB + 400);
    }
    assertThat(device.memory().stats().reserved()).as("not cached").isZero();
  }

  // ---- figures

  @Test
  void whatTheDriverRefusesIsNotCounted() {
    Device device = open();
    script.memoryLimit(1500);
    try (DeviceBuffer kept = device.allocate(1000)) {
      assertThatExceptionOfType(OutOfDeviceMemoryException.class)
          .isThrownBy(() -> device.allocate(1000));
      MemoryStats stats = device.memory().stats();
      assertThat(stats.bytes(Metric.RESERVED, Pool.ALL))
          .isEqualTo(new MemoryStats.Counter(1024, 1024, 1024, 0));
      assertThat(kept.isClosed()).isFalse();
    }
  }

  @Test
  void theHistoryTellsWhenAFreeWasAskedForAndWhenItWasDone() {
    Device device = open(builder -> builder.memoryHistory(100));
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    device.allocate(8, stream).close();
    DeviceBuffer buffer = device.allocate(8, stream);
    other.fill(buffer, (byte) 1);
    other.flush();
    buffer.close();
    List<Kind> before =
        List.of(
            Kind.DEVICE_ALLOCATE,
            Kind.ALLOCATE,
            Kind.FREE_REQUESTED,
            Kind.FREE_COMPLETED,
            Kind.ALLOCATE,
            Kind.FREE_REQUESTED);
    assertThat(kinds(device)).isEqualTo(before);
    drain(device);
    List<Kind> after = new ArrayList<>(before);
    after.add(Kind.FREE_COMPLETED);
    assertThat(kinds(device)).isEqualTo(after);
    MemoryEvent last = device.memory().history().get(6);
    assertThat(last.bytes()).isEqualTo(256);
    assertThat(last.stream()).isEqualTo(1);
    assertThat(last.block()).isEqualTo(1);
  }

  private static List<Kind> kinds(Device device) {
    return device.memory().history().stream().map(MemoryEvent::kind).toList();
  }

  @Test
  void theHistoryKeepsTheLastEvents() {
    Device device = open(builder -> builder.memoryHistory(3));
    for (int i = 0; i < 5; i++) {
      device.allocate(8).close();
    }
    assertThat(kinds(device))
        .containsExactly(Kind.ALLOCATE, Kind.FREE_REQUESTED, Kind.FREE_COMPLETED);
  }

  @Test
  void theHistoryTellsWhatWentToTheDriverAndWhatFailed() {
    Device device = open(builder -> builder.memoryHistory(3));
    device.allocate(8).close();
    device.memory().trimTo(0);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(100L << 30));
    assertThat(kinds(device)).containsExactly(Kind.TRIM, Kind.DEVICE_FREE, Kind.OUT_OF_MEMORY);
    assertThat(device.memory().history().get(1).block()).isEqualTo(1);
  }

  @Test
  void theAgeOfABlockCountsFromItsLastChange() {
    long begun = System.nanoTime();
    Device device = open();
    device.allocate(8).close();
    device.allocator().tick();
    assertThat(device.memory().snapshot().get(0).ageNanos())
        .isBetween(1L, System.nanoTime() - begun);
  }

  @Test
  void aPeakIsSeenAlsoIfTheBlockWasCached() {
    Device device = open();
    device.allocate(8).close();
    device.memory().resetPeak();
    device.allocate(8).close();
    MemoryStats stats = device.memory().stats();
    assertThat(stats.bytes(Metric.ALLOCATED, Pool.ALL).peak()).isEqualTo(256);
    assertThat(stats.bytes(Metric.REQUESTED, Pool.SMALL).peak()).isEqualTo(8);
  }

  @Test
  void tellsWhatEachStreamHoldsForOthers() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(1000, stream);
    other.fill(buffer, (byte) 1);
    buffer.close();
    MemoryStats stats = device.memory().stats();
    assertThat(stats.pendingByStream()).containsOnlyKeys(1).containsValue(1024L);
    assertThat(stats.allocated()).isZero();
    assertThat(stats.active()).isEqualTo(1024);
    BlockInfo block = device.memory().snapshot().get(0);
    assertThat(block.state()).isEqualTo(BlockInfo.State.PENDING);
    assertThat(block.outstandingUses()).isEqualTo(1);
    assertThat(block.stream()).isEqualTo(1);
    other.flush();
    drain(device);
    assertThat(device.memory().stats().pendingByStream()).isEmpty();
    assertThat(device.memory().snapshot().get(0).state()).isEqualTo(BlockInfo.State.CACHED);
  }

  @Test
  void isExportedAsJson() {
    Device device = open(builder -> builder.memoryHistory(10));
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(1000, stream);
    other.fill(buffer, (byte) 1);
    buffer.close();
    assertThat(device.memory().toJson())
        .startsWith(
            "{\"stats\":{\"allocated\":{\"bytes\":{\"all\":"
                + "{\"current\":0,\"peak\":1024,\"total_in\":1024,\"total_out\":1024},\"small\":")
        .contains("\"active\":{\"bytes\":{\"all\":{\"current\":1024,")
        .contains("\"num_device_alloc\":1,", "\"pending_bytes_by_stream\":{\"1\":1024}}")
        .contains(
            "\"blocks\":[{\"id\":1,\"state\":\"pending\",\"size\":1024,\"requested\":0,"
                + "\"stream\":1,\"outstanding_uses\":1,\"age_ns\":")
        .containsSubsequence(
            "\"kind\":\"device_allocate\"", "\"kind\":\"allocate\"", "\"kind\":\"free_requested\"")
        .endsWith("\"block\":1,\"bytes\":1024,\"stream\":1}]}");
    other.flush();
  }

  // ---- pressure

  @Test
  void theSoftLimitTrimsTheLongestUnusedFirst() {
    Device device = openWithLimits(8 * MIB, 64 * MIB, StealPolicy.NEVER);
    DeviceStream stream = device.streams().stream(1);
    List<Long> handles = new ArrayList<>();
    for (long size : new long[] {2 * MIB, 1 * MIB, 3 * MIB}) {
      device.allocator().tick(); // later than the one before
      DeviceBuffer buffer = device.allocate(size, stream);
      handles.add(buffer.handle());
      buffer.close();
    }
    assertThat(script.buffers()).isEqualTo(3);
    device.allocate(4 * MIB, stream).close(); // 2 more than there is room for
    assertThat(device.memory().stats().reserved()).isEqualTo(8 * MIB);
    try (DeviceBuffer one = device.allocate(1 * MIB, stream);
        DeviceBuffer three = device.allocate(3 * MIB, stream)) {
      assertThat(one.handle()).isEqualTo(handles.get(1));
      assertThat(three.handle()).isEqualTo(handles.get(2));
    }
    assertThat(device.memory().stats().retries()).isZero();
  }

  @Test
  void whatWasUsedAgainIsNoLongerTheOldest() {
    Device device = openWithLimits(8 * MIB, 64 * MIB, StealPolicy.NEVER);
    DeviceStream stream = device.streams().stream(1);
    for (long size : new long[] {2 * MIB, 1 * MIB, 3 * MIB, 2 * MIB}) {
      device.allocator().tick();
      device.allocate(size, stream).close();
    }
    device.allocate(4 * MIB, stream).close(); // 2 more than there is room for
    assertThat(device.memory().snapshot())
        .extracting(BlockInfo::size)
        .as("1 MiB went, and 3 MiB")
        .containsExactlyInAnyOrder(2 * MIB, 4 * MIB);
  }

  @Test
  void theSoftLimitItselfMayBeReached() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.COMPLETE);
    device.allocate(2 * MIB, device.streams().stream(1)).close();
    device.allocate(2 * MIB, device.streams().stream(2)).close();
    assertThat(device.memory().stats().steals()).isZero();
    assertThat(device.memory().stats().reserved()).isEqualTo(4 * MIB);
  }

  @Test
  void theSoftLimitMayBeExceededByWhatIsInUse() {
    Device device = openWithLimits(2 * MIB, 64 * MIB, StealPolicy.NEVER);
    try (DeviceBuffer first = device.allocate(2 * MIB);
        DeviceBuffer second = device.allocate(2 * MIB)) {
      assertThat(device.memory().stats().reserved()).isEqualTo(4 * MIB);
      assertThat(first.handle()).isNotEqualTo(second.handle());
    }
  }

  @Test
  void whatTheDriverHoldsForOthersCountsTowardsBothLimits() {
    Device device = openWithLimits(8 * MIB, 16 * MIB, StealPolicy.NEVER);
    DeviceStream stream = device.streams().stream(1);
    device.allocate(4 * MIB, stream).close();
    long foreign = device.driver().createBuffer(6 * MIB); // as a compiled graph would
    device.allocate(1 * MIB, stream).close();
    assertThat(device.memory().stats().reserved()).as("the 4 MiB went").isEqualTo(1 * MIB);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(11 * MIB, stream));
    device.allocate(10 * MIB, stream).close();
    device.driver().destroyBuffer(foreign);
  }

  @Test
  void anAllocationThatInsistsGivesBackWhatIsCachedAnywhere() {
    Device device = openWithLimits(8 * MIB, 8 * MIB, StealPolicy.NEVER);
    runWhenWaitedFor();
    for (int i = 1; i <= 4; i++) {
      closeInFlight(device, device.streams().stream(i), 2 * MIB);
    }
    device.allocate(7 * MIB, device.streams().stream(5)).close(); // waits for the work, in the end
    assertThat(device.memory().stats().retries()).isEqualTo(1);
    assertThat(device.memory().stats().outOfMemories()).isZero();
    assertThat(device.memory().stats().reserved()).isEqualTo(7 * MIB);
  }

  @Test
  void anAllocationThatInsistsTakesWhatItsOwnStreamGetsBack() {
    Device device = openWithLimits(8 * MIB, 8 * MIB, StealPolicy.NEVER);
    runWhenWaitedFor();
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(6 * MIB, stream);
    long handle = buffer.handle();
    other.fill(buffer, 0, 1, (byte) 1);
    buffer.close();
    try (DeviceBuffer next = device.allocate(6 * MIB, stream)) {
      assertThat(next.handle()).isEqualTo(handle);
    }
    assertThat(device.memory().stats().deviceAllocations()).isEqualTo(1);
  }

  @Test
  void workThatDoesNotEndIsNamedByTheFailure() {
    Device device =
        open(
            builder ->
                builder
                    .memoryRatios(0, 8.0 * MIB / RECOMMENDED)
                    .watchdog(java.time.Duration.ofMillis(20)));
    DeviceStream stream = device.streams().stream(1);
    script.hold(stream.id());
    closeInFlight(device, stream, 6 * MIB);
    assertThatExceptionOfType(OutOfDeviceMemoryException.class)
        .isThrownBy(() -> device.allocate(6 * MIB, device.streams().stream(2)))
        .withMessageContaining("does not end")
        .withMessageContaining("largest free block " + 6 * MIB + " bytes")
        .satisfies(
            e ->
                assertThat(e.getSuppressed())
                    .hasSize(1)
                    .hasOnlyElementsOfType(WaitTimeoutException.class));
  }

  @Test
  void anAllocationTakesItsOwnPendingBlocksThatAreDone() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    DeviceBuffer buffer = device.allocate(8, stream);
    other.fill(buffer, (byte) 1);
    other.flush();
    buffer.close();
    script.runAll();
    assertThat(other.query()).isTrue(); // nobody has reclaimed anything since
    assertThat(device.memory().snapshot().get(0).state()).isEqualTo(BlockInfo.State.PENDING);
    try (DeviceBuffer next = device.allocate(8, stream)) {
      assertThat(next.handle()).isEqualTo(buffer.handle());
    }
  }

  @Test
  void theDeviceGetsTheWarmestBlockAndTheCpuTheOldest() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer old = device.allocate(8, stream);
    DeviceBuffer middle = device.allocate(8, stream);
    DeviceBuffer warm = device.allocate(8, stream);
    for (DeviceBuffer each : List.of(old, middle, warm)) {
      each.close();
    }
    try (DeviceBuffer first = device.allocator().allocate(8, stream, true);
        DeviceBuffer second = device.allocator().allocate(8, stream, false)) {
      assertThat(first.handle()).isEqualTo(old.handle());
      assertThat(second.handle()).isEqualTo(warm.handle());
    }
  }

  /** The table of a stream's blocks grows; lists stay as they are. */
  @Test
  void aStreamMayHaveManyBlocks() {
    Device device = openWithLimits(1024 * MIB, 1024 * MIB, StealPolicy.NEVER);
    DeviceStream stream = device.streams().stream(1);
    List<DeviceBuffer> used = new ArrayList<>();
    List<Long> handles = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      used.add(device.allocate(8, stream));
      handles.add(used.get(i).handle());
    }
    assertThat(handles).doesNotHaveDuplicates();
    for (int i = 0; i < 300; i += 2) {
      used.get(i).close();
    }
    assertThat(device.memory().stats().allocated()).isEqualTo(150 * 256);
    for (int i = 298; i >= 0; i -= 2) { // the newest free block first
      used.set(i, device.allocate(8, stream));
      assertThat(used.get(i).handle()).isEqualTo(handles.get(i));
    }
    assertThat(device.memory().snapshot()).hasSize(300);
    used.forEach(DeviceBuffer::close);
    device.memory().emptyCache();
    assertThat(device.memory().snapshot()).isEmpty();
  }

  // ---- taking from other streams

  @Test
  void aBlockIsTakenFromAnotherStreamWhenNoWorkUsesIt() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.COMPLETE);
    DeviceStream stream = device.streams().stream(1);
    DeviceStream thief = device.streams().stream(2);
    long handle = closeInFlight(device, stream, 3 * MIB);
    try (DeviceBuffer early = device.allocate(3 * MIB, thief)) {
      assertThat(early.handle()).as("its work is under way").isNotEqualTo(handle);
      drain(device);
      try (DeviceBuffer late = device.allocate(3 * MIB, thief)) {
        assertThat(late.handle()).isEqualTo(handle);
        assertThat(late.stream()).isSameAs(thief);
      }
    }
    assertThat(device.memory().stats().steals()).isEqualTo(1);
  }

  @Test
  void neverMeansNever() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.NEVER);
    long handle = closeInFlight(device, device.streams().stream(1), 3 * MIB);
    drain(device);
    try (DeviceBuffer buffer = device.allocate(3 * MIB, device.streams().stream(2))) {
      assertThat(buffer.handle()).isNotEqualTo(handle);
    }
    assertThat(device.memory().stats().steals()).isZero();
  }

  @Test
  void aBlockThatIsTakenWithItsWorkUnderWayKeepsTheOrderForEveryone() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.WAIT);
    DeviceStream stream = device.streams().stream(1);
    DeviceStream thief = device.streams().stream(2);
    DeviceStream third = device.streams().stream(3);
    long handle = closeInFlight(device, stream, 3 * MIB);
    DeviceBuffer taken = device.allocate(3 * MIB, thief);
    assertThat(taken.handle()).isEqualTo(handle);
    third.fill(taken, 0, 1, (byte) 2); // neither the owner's nor the thief's
    third.flush();
    while (script.runnable().contains(third.id())) {
      script.step(third.id());
    }
    script.runAll();
    assertThat(read(taken)).as("the last tenant's fill came first").isEqualTo((byte) 2);
    taken.close();
  }

  /** The thief's command buffer fails at its first wait; the order is in its second. */
  @Test
  void aThiefThatFailsBeforeItsWaitKeepsTheOrderForEveryone() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.WAIT);
    DeviceStream stream = device.streams().stream(1);
    DeviceStream thief = device.streams().stream(2);
    DeviceStream failing = device.streams().stream(3);
    DeviceStream third = device.streams().stream(4);
    DeviceBuffer other = device.allocate(8, failing);
    failing.fill(other, (byte) 1);
    failing.flush();
    script.fail(failing.id(), Status.EXECUTION, "page fault");
    long handle = closeInFlight(device, stream, 3 * MIB);
    thief.waitFor(failing.record());
    DeviceBuffer taken = device.allocate(3 * MIB, thief);
    assertThat(taken.handle()).isEqualTo(handle);
    thief.flush();
    third.fill(taken, 0, 1, (byte) 2);
    third.flush();
    script.run(failing.id());
    script.step(thief.id()); // has failed
    assertThat(script.runnable())
        .as("neither the thief's end nor the third's fill comes before the last tenant's work")
        .containsExactly(stream.id());
    assertThat(thief.timeline().completed()).isLessThan(thief.queued());
    taken.close();
    assertThat(device.memory().stats().pendingByStream()).containsKey(thief.index());
    script.runAll();
    device.completions().drain(0);
    assertThatExceptionOfType(StreamFailedException.class).isThrownBy(thief::synchronize);
    thief.reset();
    third.reset();
    drain(device);
    assertThat(device.memory().stats().pendingByStream()).isEmpty();
    other.close();
  }

  @Test
  void nothingIsLostWhenTheOrderCannotBeHad() {
    Device device = openWithLimits(4 * MIB, 64 * MIB, StealPolicy.WAIT);
    DeviceStream stream = device.streams().stream(1);
    DeviceStream thief = device.streams().stream(2);
    script.fail(thief.id(), Status.EXECUTION, "page fault");
    closeInFlight(device, thief, 8);
    drain(device);
    closeInFlight(device, stream, 3 * MIB);
    try (DeviceBuffer buffer = device.allocate(3 * MIB, thief)) {
      assertThat(buffer.byteSize()).isEqualTo(3 * MIB);
    }
    long blocks = device.memory().snapshot().stream().mapToLong(BlockInfo::size).sum();
    assertThat(blocks).isEqualTo(device.memory().stats().reserved());
    assertThat(device.memory().stats().steals()).isZero();
  }

  @Test
  void aBlockIsTakenOutOnlyByTheCacheThatHasIt() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    DeviceStream other = device.streams().stream(2);
    device.allocate(8, other).close(); // the other has a list of this class
    DeviceBuffer buffer = device.allocate(8, stream);
    Block block = buffer.tenancy().block;
    buffer.close();
    block.uses.moveTo(other, 0); // as it looks to one who is late
    assertThat(other.cache().takeOut(block)).isFalse();
    block.uses.moveTo(stream, 0);
    assertThat(stream.cache().takeOut(block)).isTrue();
    assertThat(stream.cache().takeOut(block)).isFalse();
    assertThat(stream.cache().putBack(block)).isTrue();
  }

  @Test
  void aBlockInUseIsTakenOutOfNoList() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    for (int i = 0; i < 4; i++) { // of one class more each time
      device.allocate(256L << i, stream).close();
      try (DeviceBuffer buffer = device.allocate(256L << i, stream)) {
        Block block = buffer.tenancy().block;
        assertThat(stream.cache().takeOut(block)).isFalse();
        assertThat(stream.cache().steal(block.sizeClass, each -> true)).isNull();
      }
    }
  }

  // ---- giving back

  @Test
  void releaseGivesBackOneStreamsBlocks() {
    Device device = open();
    runWhenWaitedFor();
    DeviceStream stream = device.streams().stream(1);
    closeInFlight(device, stream, 8);
    closeInFlight(device, device.streams().stream(2), 8);
    device.memory().release(stream);
    assertThat(device.memory().snapshot())
        .singleElement()
        .satisfies(block -> assertThat(block.stream()).isEqualTo(2));
  }

  @Test
  void anEmptiedCacheHoldsNothingThatOtherStreamsUsed() {
    Device device = open();
    runWhenWaitedFor();
    DeviceBuffer buffer = device.allocate(8, device.streams().stream(1));
    device.streams().stream(2).fill(buffer, (byte) 1);
    buffer.close();
    device.memory().emptyCache();
    assertThat(device.memory().stats().reserved()).isZero();
    assertThat(script.buffers()).isZero();
  }

  @Test
  void whatTheDriverKeepsIsToldAndCounted() {
    Device device = open();
    device.allocate(8).close();
    device.allocate(1000).close();
    script.refuse("destroyBuffer", 1, Status.INTERNAL);
    device.memory().trimTo(0);
    assertThat(takeComplaints()).singleElement().asString().contains("kept block 1");
    assertThat(device.memory().stats().reserved()).isEqualTo(256);
    assertThat(device.memory().stats().deviceFrees()).isEqualTo(1);
    device.close();
    forget(device); // its driver was left with a buffer
  }

  @Test
  void aCloseTellsOfBuffersThatAreStillOpen() {
    Device device = open();
    DeviceBuffer first = device.allocate(8);
    DeviceBuffer second = device.allocate(1000);
    device.allocate(4000).close();
    device.close();
    assertThat(first.isClosed() && second.isClosed()).isTrue();
    assertThat(warnings()).containsExactly("2 buffers of 1280 bytes were still open at close");
    assertThat(script.buffers()).isZero();
  }

  @Test
  void aCloseThatFindsNothingOpenTellsNothing() {
    Device device = open();
    device.allocate(8).close();
    device.close();
    assertThat(warnings()).isEmpty();
  }

  @Test
  void aCacheThatHasEndedKeepsNothing() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    device.allocate(8, stream).close();
    List<Block> all = stream.cache().end();
    assertThat(all).hasSize(1);
    assertThat(stream.cache().putBack(all.get(0))).isFalse();
    assertThat(stream.cache().end()).isEmpty();
    device.driver().destroyBuffer(all.get(0).handle);
  }

  /** The device is closed while an allocation looks whether a cached block is free. */
  @Test
  void anAllocationThatMeetsTheCloseFails() throws Exception {
    List<Background<Boolean>> closers = new ArrayList<>();
    Parts parts =
        new Parts() {
          @Override
          Allocator allocator(Device device) {
            return new Allocator(device) {
              @Override
              boolean unused(Uses uses) {
                if (closers.isEmpty()) {
                  closers.add(Background.run(device::close));
                  while (!device.isClosed()) {
                    Thread.onSpinWait();
                  }
                }
                return super.unused(uses);
              }
            };
          }
        };
    Device device = open(script, builder -> builder.parts(parts));
    DeviceStream stream = device.streams().stream(1);
    device.allocate(8, stream).close();
    assertThatExceptionOfType(DeviceClosedException.class)
        .isThrownBy(() -> device.allocator().allocate(8, stream, true));
    closers.get(0).get();
    assertThat(script.buffers()).isZero();
  }

  @Test
  void trimToStopsWhereItIsTold() {
    Device device = open();
    List<DeviceBuffer> buffers = new ArrayList<>();
    for (int i = 0; i < 10; i++) {
      buffers.add(device.allocate(1 * MIB));
    }
    buffers.forEach(DeviceBuffer::close);
    device.memory().trimTo(4 * MIB);
    assertThat(device.memory().stats().reserved()).isEqualTo(4 * MIB);
    device.memory().trimTo(0);
    assertThat(device.memory().stats().reserved()).isZero();
    assertThat(device.memory().stats().deviceFrees()).isEqualTo(10);
  }

  @Test
  void aViewThatOutlivesTheDeviceGivesItsMemoryBackInTheEnd() {
    Device device = open();
    DeviceBuffer buffer = device.allocate(8);
    HostView view = buffer.map();
    device.close();
    assertThat(script.buffers()).isEqualTo(1);
    view.bytes().put(0, (byte) 1);
    view.close();
    assertThat(script.buffers()).isZero();
  }

  @Test
  void aRefusedLastCommitKeepsNoMemory() {
    Device device = open();
    DeviceStream stream = device.streams().stream(1);
    DeviceBuffer buffer = device.allocate(8, stream);
    stream.fill(buffer, (byte) 1);
    script.refuse("commit", 1, Status.INTERNAL);
    device.close();
    assertThat(script.buffers()).isZero();
  }
}
