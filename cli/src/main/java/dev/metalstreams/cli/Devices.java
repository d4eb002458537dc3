package dev.metalstreams.cli;

import dev.metalstreams.Device;
import java.util.function.Consumer;

/** Opens the device that the options ask for. */
final class Devices {
  private Devices() {}

  /**
   * Opens it. What no option says is left to the settings: properties, then the environment, then
   * defaults.
   *
   * @throws UsageException if a setting is malformed
   */
  static Device open(Values values, Consumer<Device.Builder> more) {
    Device.Builder builder = Device.builder();
    if (values.has(CommonOptions.BACKEND)) {
      builder.backend(values.get(CommonOptions.BACKEND));
    }
    more.accept(builder);
    try {
      return builder.open();
    } catch (IllegalArgumentException e) {
      throw new UsageException(OneLine.of(e), e);
    }
  }

  /** Closes it; what goes wrong is a finding. */
  static void close(Device device, Findings findings) {
    try {
      device.close();
    } catch (RuntimeException e) {
      findings.error("closing the device", e);
    }
  }

  /** Closes it after a failure, which stays the one that is told. */
  static void close(Device device, Throwable failure) {
    try {
      device.close();
    } catch (RuntimeException e) {
      failure.addSuppressed(e);
    }
  }
}
