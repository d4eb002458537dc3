/** The driver interface, and the driver that reaches a device through the C ABI. */
module dev.metalstreams.bindings {
  requires transitive static org.jspecify;

  exports dev.metalstreams.driver;

  uses dev.metalstreams.driver.DriverProvider;

  provides dev.metalstreams.driver.DriverProvider with
      dev.metalstreams.bindings.FfmDriverProvider;
}
