package dev.metalstreams.cli;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.commons.cli.Option;

/**
 * An option: its help, its bounds and its default in one place, so that none of them can say
 * something else.
 *
 * @param name without the dashes
 * @param placeholder what stands for the value in help; empty for a flag
 * @param takes what it takes, to follow "takes"
 * @param fallback the value when it is not given, as text
 * @param description for help
 * @param parser makes the value; throws {@link IllegalArgumentException} if it is none
 */
record Parameter<T>(
    String name,
    String placeholder,
    String takes,
    Optional<String> fallback,
    String description,
    Function<String, T> parser) {

  private static final Pattern DURATION = Pattern.compile("([0-9]{1,18})(ms|s|m|h)");
  private static final Duration LONGEST = Duration.ofDays(30);

  static Parameter<Boolean> flag(String name, String description) {
    return new Parameter<>(name, "", "no value", Optional.empty(), description, text -> true);
  }

  static Parameter<Long> wholeNumber(
      String name, long least, long most, long fallback, String description) {
    return wholeNumber(name, least, most, Optional.of(Long.toString(fallback)), description);
  }

  static Parameter<Long> wholeNumber(
      String name, long least, long most, Optional<String> fallback, String description) {
    return new Parameter<>(
        name,
        "N",
        most == Long.MAX_VALUE
            ? "a whole number of at least " + least
            : "a whole number from " + least + " to " + most,
        fallback,
        description,
        text -> {
          long value = Long.parseLong(text);
          if (value < least || value > most) {
            throw new IllegalArgumentException("out of bounds");
          }
          return value;
        });
  }

  /** Whole numbers with commas between them, given back in rising order, each once. */
  static Parameter<List<Integer>> wholeNumbers(
      String name, int least, int most, String fallback, String description) {
    return new Parameter<>(
        name,
        "N,N,...",
        "whole numbers from " + least + " to " + most + " with commas between them",
        Optional.of(fallback),
        description,
        text -> {
          SortedSet<Integer> numbers = new TreeSet<>();
          for (String each : text.split(",", -1)) {
            int value = Integer.parseInt(each);
            if (value < least || value > most) {
              throw new IllegalArgumentException("out of bounds");
            }
            numbers.add(value);
          }
          return List.copyOf(numbers);
        });
  }

  static Parameter<String> choice(
      String name, String fallback, String description, String... choices) {
    return choice(name, Optional.of(fallback), description, choices);
  }

  static Parameter<String> choice(
      String name, Optional<String> fallback, String description, String... choices) {
    List<String> allowed = List.of(choices);
    String alternatives = String.join("|", choices);
    return new Parameter<>(
        name,
        alternatives,
        "one of " + String.join(", ", choices),
        fallback,
        description,
        text -> {
          if (!allowed.contains(text)) {
            throw new IllegalArgumentException("no choice");
          }
          return text;
        });
  }

  static Parameter<Duration> duration(String name, Optional<String> fallback, String description) {
    return new Parameter<>(
        name,
        "TIME",
        "a time above zero such as 500ms, 30s, 5m or 1h, at most 30 days",
        fallback,
        description,
        Parameter::parseDuration);
  }

  static Parameter<Path> file(String name, String description) {
    return new Parameter<>(
        name, "FILE", "the path of a file", Optional.empty(), description, Parameter::parsePath);
  }

  private static Duration parseDuration(String text) {
    Matcher matcher = DURATION.matcher(text);
    if (!matcher.matches()) {
      throw new IllegalArgumentException("no time");
    }
    long amount = Long.parseLong(matcher.group(1));
    Duration duration;
    try {
      duration =
          switch (matcher.group(2)) {
            case "ms" -> Duration.ofMillis(amount);
            case "s" -> Duration.ofSeconds(amount);
            case "m" -> Duration.ofMinutes(amount);
            default -> Duration.ofHours(amount);
          };
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("overflow", e);
    }
    if (duration.isZero() || duration.compareTo(LONGEST) > 0) {
      throw new IllegalArgumentException("out of bounds");
    }
    return duration;
  }

  private static Path parsePath(String text) {
    if (text.isEmpty()) {
      throw new IllegalArgumentException("empty");
    }
    try {
      return Path.of(text);
    } catch (InvalidPathException e) {
      throw new IllegalArgumentException("no path", e);
    }
  }

  /** The option as the parser of command lines knows it. */
  Option option() {
    Option.Builder option =
        Option.builder()
            .longOpt(name)
            .desc(description + fallback.map(f -> " (default: " + f + ")").orElse(""));
    return placeholder.isEmpty() ? option.get() : option.hasArg().argName(placeholder).get();
  }

  /**
   * Makes the value.
   *
   * @throws UsageException naming the option and what it takes
   */
  T parse(String text) {
    try {
      return parser.apply(text);
    } catch (IllegalArgumentException e) {
      throw new UsageException(
          "--" + name + " takes " + takes + ", not '" + OneLine.of(text) + "'", e);
    }
  }
}
