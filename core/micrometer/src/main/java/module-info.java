/** The figures of a device as Micrometer meters. */
@SuppressWarnings({"requires-automatic", "requires-transitive-automatic"}) // no descriptor
module dev.metalstreams.micrometer {
  requires transitive dev.metalstreams.core;
  requires transitive micrometer.core;
  requires static org.jspecify;

  exports dev.metalstreams.micrometer;
}
