package dev.metalstreams.script;

/**
 * The user of the driver broke a rule that a real driver need not notice. Recorded rather than
 * thrown, so that it cannot be swallowed on the way to the test.
 *
 * @param rule which rule
 * @param detail what was done, by which thread
 */
public record Violation(Rule rule, String detail) {

  /** The rules that are watched. */
  public enum Rule {
    /** A buffer is not ended while an uncompleted command buffer uses it. */
    DESTROYED_IN_USE,
    /** No handle is used after its end. */
    USED_AFTER_END,
    /** Calls on one queue are serialised by the caller. */
    NOT_SERIALISED,
    /** No virtual thread waits inside a downcall. */
    VIRTUAL_THREAD_BLOCKED,
    /** A queue outlives the waits for it. */
    AWAITED_QUEUE_ENDED,
    /** While an executable is encoded by one who vouches for being alone, no other is. */
    SOLE_NOT_ALONE
  }
}
