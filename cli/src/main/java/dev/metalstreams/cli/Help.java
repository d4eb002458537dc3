package dev.metalstreams.cli;

import java.io.PrintStream;
import java.util.List;

/** The help of the program and of each command. */
final class Help {
  private Help() {}

  static void print(List<Command> commands, PrintStream out) {
    out.println("Usage: " + Main.PROGRAM + " COMMAND [OPTIONS]");
    out.println();
    out.println("Parallel inference on a GPU through a pool of streams.");
    out.println();
    out.println("Commands:");
    Table table = new Table();
    commands.forEach(command -> table.row("  " + command.name(), command.summary()));
    table.print(out);
    out.println();
    out.println("Options of every command:");
    printOptions(CommonOptions.ALL, out);
    out.println();
    out.println(Main.PROGRAM + " COMMAND --help says more; --version prints the version.");
    out.println();
    out.println(
        "Exit status: 0 all held; 1 a check failed; 2 wrong command line, setting or file; 3 no"
            + " usable backend;");
    out.println("130 stopped by Ctrl-C.");
  }

  static void print(Command command, PrintStream out) {
    String operand = command.operand().map(each -> " " + each.name()).orElse("");
    out.println("Usage: " + Main.PROGRAM + " " + command.name() + operand + " [OPTIONS]");
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
    Table table = new Table();
    for (Parameter<?> parameter : parameters) {
      table.row(
          "  --" + parameter.name() + " " + parameter.placeholder(),
          parameter.option().getDescription());
    }
    table.print(out);
  }
}
