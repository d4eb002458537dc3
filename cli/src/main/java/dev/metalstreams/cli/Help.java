package dev.metalstreams.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.util.Comparator;
import java.util.List;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.help.HelpFormatter;
import org.apache.commons.cli.help.TextHelpAppendable;

/** The help of the program and of each command. */
final class Help {
  private static final int WIDTH = 110;

  private Help() {}

  static void print(List<Command> commands, PrintStream out) {
    out.println("Usage: " + Main.PROGRAM + " COMMAND [OPTIONS]");
    out.println();
    out.println("Parallel inference on a GPU through a pool of streams.");
    out.println();
    out.println("Commands:");
    Table table = new Table();
    commands.forEach(command -> table.row(" ", command.name(), command.summary()));
    table.print(out);
    out.println();
    out.println("Options of every command:");
    printOptions(CommonOptions.ALL, out);
    out.println();
    out.println(Main.PROGRAM + " COMMAND --help says more; --version prints the version.");
    out.println();
    out.println(
        "Exit status: 0 all held; 1 a check failed; 2 wrong command line, setting or file; 3 no usable backend;");
    out.println("130 stopped by Ctrl-C.");
  }

  static void print(Command command, PrintStream out) {
    out.println("Usage: " + Main.PROGRAM + " " + command.name() + " [OPTIONS]");
    out.println();
    out.println(command.description());
    if (!command.parameters().isEmpty()) {
      out.println();
      out.println("Options:");
      printOptions(command.parameters(), out);
    }
    out.println();
    out.println("Options of every command:");
    printOptions(CommonOptions.ALL, out);
  }

  private static void printOptions(List<Parameter<?>> parameters, PrintStream out) {
    TextHelpAppendable target = new TextHelpAppendable(out);
    target.setMaxWidth(WIDTH);
    HelpFormatter formatter =
        HelpFormatter.builder()
            .setShowSince(false)
            .setHelpAppendable(target)
            .setComparator(Comparator.comparingInt(option -> 0)) // They stay as they were declared.
            .get();
    Options options = new Options();
    parameters.forEach(parameter -> options.addOption(parameter.option()));
    try {
      formatter.printOptions(options);
    } catch (IOException e) {
      throw new UncheckedIOException(e); // A PrintStream throws none.
    }
  }
}
