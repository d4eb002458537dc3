package dev.metalstreams.cli;

import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.apache.commons.cli.CommandLine;
import org.apache.commons.cli.DefaultParser;
import org.apache.commons.cli.MissingArgumentException;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.ParseException;
import org.apache.commons.cli.UnrecognizedOptionException;

/** The options that were given, every one of them found to be well-formed. */
final class Values {
  private final CommandLine given;

  private final Optional<String> operand;

  private Values(CommandLine given) {
    this.given = given;
    this.operand = given.getArgList().stream().findFirst();
  }

  /**
   * Parses the words after the command.
   *
   * @throws UsageException for the first fault
   */
  static Values parse(
      Optional<Parameter<String>> operand, List<Parameter<?>> parameters, List<String> words) {
    Options options = new Options();
    parameters.forEach(parameter -> options.addOption(parameter.option()));
    CommandLine given;
    try {
      given =
          DefaultParser.builder()
              .setAllowPartialMatching(false)
              .setStripLeadingAndTrailingQuotes(false)
              .get()
              .parse(options, words.toArray(String[]::new));
    } catch (MissingArgumentException e) {
      Parameter<?> parameter = named(parameters, e.getOption().getLongOpt());
      throw new UsageException(
          "--" + parameter.name() + " takes " + parameter.takes() + ", but no value follows it", e);
    } catch (UnrecognizedOptionException e) {
      throw new UsageException(
          "unknown option " + OneLine.of(e.getOption()) + "; --help lists the options", e);
    } catch (ParseException e) {
      throw new UsageException(OneLine.of(e), e);
    }
    int operands = operand.isPresent() ? 1 : 0;
    if (given.getArgList().size() > operands) {
      throw new UsageException(
          "unexpected argument '"
              + OneLine.of(given.getArgList().get(operands))
              + "'; --help lists the options");
    }
    Values values = new Values(given);
    if (!values.has(CommonOptions.HELP)) {
      operand.ifPresent(values::checkOperand);
      parameters.forEach(values::check);
    }
    return values;
  }

  private static Parameter<?> named(List<Parameter<?>> parameters, String name) {
    return parameters.stream()
        .filter(parameter -> parameter.name().equals(name))
        .findFirst()
        .orElseThrow();
  }

  private void checkOperand(Parameter<String> parameter) {
    String text =
        operand.orElseThrow(
            () -> new UsageException(parameter.name() + " is missing; it is " + parameter.takes()));
    try {
      Objects.requireNonNull(parameter.parser().apply(text));
    } catch (IllegalArgumentException e) {
      throw new UsageException(
          parameter.name() + " is " + parameter.takes() + ", not '" + OneLine.of(text) + "'", e);
    }
  }

  private void check(Parameter<?> parameter) {
    String[] texts = given.getOptionValues(parameter.name());
    if (texts == null) {
      return;
    }
    if (texts.length > 1) {
      throw new UsageException(
          "--"
              + parameter.name()
              + " was given "
              + texts.length
              + " times; it takes "
              + parameter.takes()
              + ", once");
    }
    parameter.parse(texts[0]);
  }

  /** What stands before the options; of a command that takes something there. */
  String operand() {
    return operand.orElseThrow();
  }

  /** Whether the option was given. */
  boolean has(Parameter<?> parameter) {
    return given.hasOption(parameter.name());
  }

  /** The value given, or the default, if it has one. */
  <T> Optional<T> find(Parameter<T> parameter) {
    return Optional.ofNullable(given.getOptionValue(parameter.name()))
        .or(parameter::fallback)
        .map(parameter::parse);
  }

  /** The value given, or the default. */
  <T> T get(Parameter<T> parameter) {
    return find(parameter).orElseThrow();
  }

  /** The value given, or the default, of a parameter whose bounds are those of an int. */
  int getInt(Parameter<Long> parameter) {
    return Math.toIntExact(get(parameter));
  }

  /**
   * Refuses an option that would change nothing.
   *
   * @param goesWith what it needs, to follow "goes only with"
   */
  void refuse(Parameter<?> parameter, String goesWith) {
    if (has(parameter)) {
      throw new UsageException("--" + parameter.name() + " goes only with " + goesWith);
    }
  }
}
