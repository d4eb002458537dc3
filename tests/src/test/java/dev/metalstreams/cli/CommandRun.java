package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A command line that was run, and what came of it.
 *
 * @param status the exit status
 * @param out standard output
 * @param err standard error
 */
record CommandRun(int status, String out, String err) {

  /** Runs a command line as the program does. */
  static CommandRun of(String... args) {
    return capture((out, err) -> Main.run(args, out, err));
  }

  /** Runs a command line whose words are separated by spaces. */
  static CommandRun line(String line) {
    return of(line.isEmpty() ? new String[0] : line.split(" "));
  }

  /** Runs with a command of the test's own. */
  static CommandRun with(Command command, StopSignal stop, String... args) {
    return capture(
        (out, err) ->
            Main.run(List.of(args), List.of(command), new Output(out, err, false), stop).code());
  }

  private interface Program {
    int run(PrintStream out, PrintStream err);
  }

  private static CommandRun capture(Program program) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    int status =
        program.run(
            new PrintStream(out, true, StandardCharsets.UTF_8),
            new PrintStream(err, true, StandardCharsets.UTF_8));
    return new CommandRun(
        status, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
  }

  /** Asserts that it was refused in one line that says this, and that nothing was printed. */
  void assertRefused(String fault) {
    assertThat(err.lines()).as("standard error").hasSize(1);
    assertThat(err).startsWith("metalstreams: ").contains(fault);
    assertThat(out).isEmpty();
    assertThat(status).isEqualTo(2);
  }

  /**
   * Standard output as the one JSON object that it must be, flat: {@code memory.peak}, {@code
   * settings.0.name}. Numbers are doubles, null is a null value.
   */
  Map<String, @Nullable Object> json() {
    Map<String, @Nullable Object> fields = new LinkedHashMap<>();
    try (JsonParser json = new JsonFactory().createParser(out)) {
      assertThat(json.nextToken()).isEqualTo(JsonToken.START_OBJECT);
      readObject(json, "", fields);
      assertThat(json.nextToken()).as("nothing follows the object").isNull();
    } catch (IOException e) {
      throw new UncheckedIOException(out, e);
    }
    return fields;
  }

  private static void readObject(
      JsonParser json, String prefix, Map<String, @Nullable Object> fields) throws IOException {
    while (json.nextToken() == JsonToken.FIELD_NAME) {
      String name = prefix + json.currentName();
      read(json, json.nextToken(), name, fields);
    }
  }

  private static void read(
      JsonParser json, JsonToken token, String name, Map<String, @Nullable Object> fields)
      throws IOException {
    switch (token) {
      case START_OBJECT -> readObject(json, name + ".", fields);
      case START_ARRAY -> {
        int index = 0;
        for (JsonToken next = json.nextToken();
            next != JsonToken.END_ARRAY;
            next = json.nextToken()) {
          read(json, next, name + "." + index++, fields);
        }
      }
      case VALUE_STRING -> fields.put(name, json.getText());
      case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> fields.put(name, json.getDoubleValue());
      case VALUE_TRUE, VALUE_FALSE -> fields.put(name, json.getBooleanValue());
      default -> fields.put(name, null);
    }
  }

  /** A number of the JSON object. */
  double number(String field) {
    Object value = json().get(field);
    assertThat(value).as(field).isInstanceOf(Double.class);
    return value instanceof Double number ? number : Double.NaN;
  }
}
