package dev.metalstreams.driver;

/**
 * Opens drivers; found with {@link java.util.ServiceLoader}, or given to the device's builder by
 * hand.
 *
 * <p>Providers are made without touching native code: a missing library shows in {@link #open}.
 */
public interface DriverProvider {

  /**
   * Opens a device.
   *
   * @throws DriverException with {@link Status#NO_DEVICE} and a sentence saying what to do, if
   *     there is none
   */
  Driver open(DriverOptions options);
}
