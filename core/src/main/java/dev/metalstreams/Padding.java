package dev.metalstreams;

/**
 * Space around what one stream's threads write with every operation.
 *
 * <p>Processors hand memory to each other in lines of 64 bytes, on Apple's of 128. What two streams
 * write or read all the time may stand in one line, if the garbage collector puts it there, and
 * then each waits for the other although they share nothing: an allocation and its close took 60 ns
 * or 130 beside one other thread, and changed with a collection. So what an allocation writes of
 * its stream stands in arrays, which have this space at both ends, and in no field of an object.
 */
final class Padding {
  /** In elements of 8 bytes. */
  static final int LONGS = 16;

  private Padding() {}
}
