package dev.metalstreams.cli;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * How to measure.
 *
 * @param duration of one table, about
 * @param rounds that count
 * @param threads numbers of threads to compare
 * @param sizes rows and columns of matrices to compare
 * @param size rows and columns of the matrices where only one size is measured
 * @param submitters threads that submit to the batch queue
 * @param inFlight requests that each of them has under way
 * @param maxBatch largest batch of the queue
 * @param maxDelay longest wait for others; zero for none
 */
record BenchOptions(
    Duration duration,
    int rounds,
    List<Integer> threads,
    List<Integer> sizes,
    int size,
    int submitters,
    int inFlight,
    int maxBatch,
    Duration maxDelay) {

  static final Parameter<Duration> DURATION =
      Parameter.duration("duration", Optional.of("15s"), "time for each table, about");
  static final Parameter<Long> ROUNDS =
      Parameter.wholeNumber("rounds", 1, 1000, 5, "rounds that count; one more comes before them");
  static final Parameter<List<Integer>> THREADS =
      Parameter.wholeNumbers(
          "threads", 1, 1000, "1,2,4,8,16", "numbers of threads to compare (threads, sizes)");
  static final Parameter<List<Integer>> SIZES =
      Parameter.wholeNumbers(
          "sizes", 1, 4096, "64,128,256,512,1024", "rows and columns of matrices (sizes)");
  static final Parameter<Long> SIZE =
      Parameter.wholeNumber(
          "size", 1, 4096, 64, "rows and columns of the matrices (threads, sync)");
  static final Parameter<Long> SUBMITTERS =
      Parameter.wholeNumber("submitters", 1, 10_000, 64, "threads that submit requests (batch)");
  static final Parameter<Long> IN_FLIGHT =
      Parameter.wholeNumber(
          "in-flight", 1, 1000, 16, "requests that each of them has under way (batch)");
  static final Parameter<Long> MAX_BATCH =
      Parameter.wholeNumber("max-batch", 1, 4096, 512, "largest batch of the queue (batch)");
  static final Parameter<Duration> MAX_DELAY =
      Parameter.duration(
          "max-delay",
          Optional.empty(),
          "longest wait of a request for others (batch) (default: none)");

  static final List<Parameter<?>> ALL =
      List.of(DURATION, ROUNDS, THREADS, SIZES, SIZE, SUBMITTERS, IN_FLIGHT, MAX_BATCH, MAX_DELAY);

  static BenchOptions of(Values values) {
    return new BenchOptions(
        values.get(DURATION),
        values.getInt(ROUNDS),
        values.get(THREADS),
        values.get(SIZES),
        values.getInt(SIZE),
        values.getInt(SUBMITTERS),
        values.getInt(IN_FLIGHT),
        values.getInt(MAX_BATCH),
        values.find(MAX_DELAY).orElse(Duration.ZERO));
  }

  /** The options that a table takes; the others would change nothing. */
  static List<Parameter<?>> of(String table) {
    List<Parameter<?>> options = new ArrayList<>(List.of(DURATION, ROUNDS));
    options.addAll(own(table));
    return options;
  }

  private static List<Parameter<?>> own(String table) {
    return switch (table) {
      case ThreadsBench.NAME -> List.of(THREADS, SIZE);
      case SyncBench.NAME -> List.of(SIZE);
      case SizesBench.NAME -> List.of(THREADS, SIZES);
      case BatchBench.NAME -> List.of(SUBMITTERS, IN_FLIGHT, MAX_BATCH, MAX_DELAY);
      case BenchCommand.ALL -> ALL;
      default -> List.of();
    };
  }
}
