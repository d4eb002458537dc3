package dev.metalstreams.bench;

/** A network made ready by one of the contenders, for one batch size. Safe for use by threads. */
interface Engine extends AutoCloseable {

  /** What one thread needs to run the network. */
  interface Session extends AutoCloseable {

    /** From values on the heap to results on the heap, with all that lies between. */
    void run(float[] in, float[] out) throws Exception;

    @Override
    void close();
  }

  /** A session for the calling thread. */
  Session session() throws Exception;

  @Override
  void close();
}
