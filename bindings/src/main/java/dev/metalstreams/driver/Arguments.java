package dev.metalstreams.driver;

/**
 * Slots for the buffers of one {@link Driver#encodeExecutable} call, kept and filled again by their
 * owner so that a call allocates nothing. Not thread-safe.
 */
public interface Arguments {

  /** How many slots there are. */
  int capacity();

  /**
   * Puts a buffer into a slot.
   *
   * @throws IndexOutOfBoundsException if there is no such slot
   */
  void set(int index, long buffer);
}
