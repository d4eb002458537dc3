/** The {@code metalstreams} command. */
@SuppressWarnings("requires-automatic") // HdrHistogram has no descriptor.
module dev.metalstreams.cli {
  requires com.fasterxml.jackson.core;
  requires dev.metalstreams.core;
  requires HdrHistogram;
  requires org.apache.commons.cli;
  requires static org.jspecify;

  uses dev.metalstreams.driver.DriverProvider;
}
