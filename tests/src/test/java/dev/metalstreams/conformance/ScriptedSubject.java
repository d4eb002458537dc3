package dev.metalstreams.conformance;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.Status;
import dev.metalstreams.script.Script;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;

/** The scripted driver, running by itself: what tests stand on must itself conform. */
final class ScriptedSubject implements Subject {
  private final boolean canAwait;
  private final Map<Driver, Script> scripts = new ConcurrentHashMap<>();

  ScriptedSubject(boolean canAwait) {
    this.canAwait = canAwait;
  }

  @Override
  public Driver open() {
    Script.Builder builder = Script.automaticBuilder();
    Script script = (canAwait ? builder.canAwait() : builder).build();
    scripts.put(script.driver(), script);
    return script.driver();
  }

  @Override
  public void hold(Driver driver, long queue) {
    script(driver).hold(script(driver).idOf(queue));
  }

  @Override
  public void release(Driver driver, long queue) {
    script(driver).release(script(driver).idOf(queue));
  }

  @Override
  public void failNext(Driver driver, long queue) {
    script(driver).fail(script(driver).idOf(queue), Status.EXECUTION, "planned failure");
  }

  @Override
  public void awaitStruck() {
    // It is ordered for the queue.
  }

  @Override
  public void memoryLimit(Driver driver, long bytes) {
    script(driver).memoryLimit(bytes);
  }

  private Script script(Driver driver) {
    return Objects.requireNonNull(scripts.get(driver));
  }

  @Override
  public boolean stopsAtFailedWaits() {
    return true;
  }
}
