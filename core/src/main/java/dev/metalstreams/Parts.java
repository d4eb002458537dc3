package dev.metalstreams;

import dev.metalstreams.driver.Driver;

/**
 * Makes the parts of a device whose correctness everything rests on. Tests replace one of them by a
 * broken twin, to show that the breach is caught.
 */
class Parts {

  Timeline timeline(
      Driver driver,
      long queue,
      String name,
      int streamIndex,
      long watchdogNanos,
      Polling polling) {
    return new Timeline(driver, queue, name, streamIndex, watchdogNanos, polling);
  }

  Allocator allocator(Device device) {
    return new Allocator(device);
  }

  /** Made only if races are looked for. */
  Hazards hazards(Device device) {
    return new Hazards(device);
  }

  HostEvents hostEvents(Device device) {
    return new HostEvents(device);
  }

  EncodeGate encodeGate() {
    return EncodeGate.PROCESS;
  }

  /** Whether the device has a completion thread; a test without one drains by hand. */
  boolean completionThread() {
    return true;
  }
}
