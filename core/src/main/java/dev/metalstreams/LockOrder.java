package dev.metalstreams;

/**
 * The order of the locks, outermost first: device registry, stream, memory. A thread holds at most
 * one of each level, so two stream locks are never held together.
 *
 * <p>With the setting {@code debug} every acquisition is checked; without it the check is an empty
 * method.
 */
class LockOrder {
  static final int REGISTRY = 0;
  static final int STREAM = 1;
  static final int MEMORY = 2;

  private static final String[] NAMES = {"registry", "stream", "memory"};

  /** Checks nothing. */
  static final LockOrder UNCHECKED = new LockOrder();

  /** About to take a lock of this level. */
  void enter(int level) {}

  /** Has given back a lock of this level. */
  void exit(int level) {}

  /** Throws when a thread takes a lock out of order. */
  static final class Checked extends LockOrder {
    private final ThreadLocal<int[]> held = ThreadLocal.withInitial(() -> new int[NAMES.length]);

    @Override
    void enter(int level) {
      int[] mine = held.get();
      for (int inner = level; inner < mine.length; inner++) {
        if (mine[inner] > 0) {
          throw new IllegalStateException(
              "lock order: a thread that holds a "
                  + NAMES[inner]
                  + " lock takes a "
                  + NAMES[level]
                  + " lock");
        }
      }
      mine[level]++;
    }

    @Override
    void exit(int level) {
      held.get()[level]--;
    }
  }
}
