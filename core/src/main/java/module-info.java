/** Streams, events, memory and graphs on one GPU, for many threads at once. */
module dev.metalstreams.core {
  requires com.fasterxml.jackson.core;
  requires transitive dev.metalstreams.bindings;
  requires static transitive org.jspecify;
  requires jdk.jfr;

  exports dev.metalstreams;
  exports dev.metalstreams.batch;
  exports dev.metalstreams.safetensors;

  uses dev.metalstreams.driver.DriverProvider;
}
