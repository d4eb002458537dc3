package dev.metalstreams.cli;

import dev.metalstreams.DeviceUnavailableException;
import dev.metalstreams.safetensors.SafetensorsException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * The program: finds the command, runs it, and turns what goes wrong into one line and an exit
 * status.
 */
public final class Main {
  static final String PROGRAM = "metalstreams";

  private static final String BACKEND_HINT =
      "--backend host runs on the CPU of any supported machine; the setting metalstreams.library"
          + " (METALSTREAMS_LIBRARY) names the native library, and unset, the packed one is taken";

  private Main() {}

  /** Entry point. */
  public static void main(String[] args) {
    StopSignal stop = StopSignal.onShutdown();
    ExitStatus status;
    try {
      status = run(List.of(args), commands(), Output.ofProcess(), stop);
      System.out.flush();
    } finally {
      stop.ended();
    }
    System.exit(status.code());
  }

  /** Runs a command line without ending the JVM, as if nothing were a terminal. */
  static int run(String[] args, PrintStream out, PrintStream err) {
    return run(List.of(args), commands(), new Output(out, err, false), new StopSignal()).code();
  }

  /** The commands there are, in the order of the help. */
  static List<Command> commands() {
    return List.of(
        new InfoCommand(),
        new StressCommand(),
        new InferCommand(),
        new VerifyCommand(),
        new BenchCommand(),
        new TuneCommand(),
        new ReproCommand());
  }

  static ExitStatus run(List<String> args, List<Command> commands, Output output, StopSignal stop) {
    try {
      return dispatch(args, commands, output, stop);
    } catch (UsageException e) {
      output.complain(OneLine.of(e));
      return ExitStatus.BAD_USAGE;
    }
  }

  private static ExitStatus dispatch(
      List<String> args, List<Command> commands, Output output, StopSignal stop) {
    if (args.isEmpty()) {
      throw new UsageException(
          "no command given; there are " + names(commands) + " (--help says more)");
    }
    String word = args.getFirst();
    List<String> rest = args.subList(1, args.size());
    return switch (word) {
      case "--help", "-h", "help" -> {
        if (rest.isEmpty()) {
          Help.print(commands, output.out());
        } else {
          Help.print(find(rest.getFirst(), commands), output.out());
        }
        yield ExitStatus.OK;
      }
      case "--version" -> {
        if (!rest.isEmpty()) {
          throw new UsageException(
              "--version stands alone, but '" + OneLine.of(rest.getFirst()) + "' follows it");
        }
        output.out().println(PROGRAM + " " + Version.get());
        yield ExitStatus.OK;
      }
      default -> runCommand(find(word, commands), rest, output, stop);
    };
  }

  private static Command find(String word, List<Command> commands) {
    Optional<Command> command = commands.stream().filter(c -> c.name().equals(word)).findFirst();
    return command.orElseThrow(
        () ->
            new UsageException(
                (word.startsWith("-")
                        ? "the command comes first, but '" + OneLine.of(word) + "' was found; "
                        : "unknown command '" + OneLine.of(word) + "'; ")
                    + "there are "
                    + names(commands)));
  }

  private static String names(List<Command> commands) {
    return commands.stream().map(Command::name).collect(Collectors.joining(", "));
  }

  private static ExitStatus runCommand(
      Command command, List<String> words, Output output, StopSignal stop) {
    List<Parameter<?>> parameters = new ArrayList<>(command.parameters());
    parameters.addAll(CommonOptions.ALL);
    Invocation invocation =
        new Invocation(Values.parse(command.operand(), parameters, words), output, stop);
    if (invocation.values().has(CommonOptions.HELP)) {
      Help.print(command, output.out());
      return ExitStatus.OK;
    }
    try {
      return command.run(invocation);
    } catch (SafetensorsException e) {
      throw new UsageException(OneLine.of(e), e);
    } catch (UsageException e) {
      throw e;
    } catch (DeviceUnavailableException e) {
      fail("no usable backend: " + OneLine.of(e), Optional.of(BACKEND_HINT), e, invocation);
      return ExitStatus.NO_BACKEND;
    } catch (RuntimeException | Error e) {
      fail(OneLine.of(e.toString()), Optional.empty(), e, invocation);
      return ExitStatus.CHECK_FAILED;
    }
  }

  private static void fail(
      String message, Optional<String> hint, Throwable cause, Invocation invocation) {
    if (invocation.json()) {
      Json json = new Json().put("ok", false).put("backend", null).put("error", message);
      hint.ifPresent(text -> json.put("hint", text));
      json.print(invocation.output().out());
    }
    invocation.output().complain(message);
    hint.ifPresent(invocation.output()::complain);
    if (invocation.verbose()) {
      cause.printStackTrace(invocation.output().err());
    }
  }
}
