package dev.metalstreams.bindings;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Reads the ABI out of its headers with the C compiler. The preprocessed text yields the names and
 * how they are declared; a program made of these yields every size, offset and value, and does not
 * compile if a declaration was misread.
 */
final class HeaderReader {
  private static final Pattern HANDLE = Pattern.compile("typedef struct (mst_\\w+) \\1");
  private static final Pattern STRUCT =
      Pattern.compile("typedef struct (mst_\\w+) \\{ (.*) \\} \\1");
  private static final Pattern FIELD = Pattern.compile("(.*?)(\\w+)((?:\\[\\w+\\])*)");
  private static final Pattern ENUM = Pattern.compile("enum mst_\\w+ \\{ (.*) \\}");
  private static final Pattern FUNCTION = Pattern.compile("(.*?)(mst_\\w+)\\((.*)\\)");
  private static final Pattern PARAMETER = Pattern.compile("(.*?)(\\w+)");
  private static final Pattern MACRO = Pattern.compile("#define (MST_\\w+) (.+)");
  private static final Pattern ATTRIBUTE = Pattern.compile("__attribute__ ?\\(\\(.*?\\)\\)\\)?");

  private final Path headers;
  private final Path work;

  private final List<String> constants = new ArrayList<>();

  /** Fields by struct; a field is its declaration by its name. */
  private final Map<String, Map<String, String>> structs = new TreeMap<>();

  private final Map<String, Function> functions = new TreeMap<>();

  private record Function(String result, List<String> parameters, String declaration) {}

  /**
   * Makes a reader.
   *
   * @param headers the folder of {@code mst.h} and {@code mst_test.h}
   * @param work an empty folder
   */
  HeaderReader(Path headers, Path work) {
    this.headers = headers;
    this.work = work;
  }

  Abi read() throws IOException, InterruptedException {
    Path source = headers.resolve("mst_test.h"); // includes the other
    statements(compiler("-E", "-P", source.toString())).forEach(this::declare);
    compiler("-E", "-dM", source.toString()).lines().forEach(this::define);
    Path program = Files.writeString(work.resolve("abi.c"), program());
    Path executable = work.resolve("abi");
    compiler("-Wall", "-Wextra", "-Werror", program.toString(), "-o", executable.toString());
    Abi abi = new Abi();
    for (String line : run(List.of(executable.toString())).lines().toList()) {
      int separator = line.indexOf(" = ");
      abi.add(line.substring(0, separator), line.substring(separator + 3));
    }
    return abi;
  }

  // ---- from text to declarations

  /** What ends with a semicolon outside of braces, white space made even. */
  private static List<String> statements(String text) {
    List<String> statements = new ArrayList<>();
    StringBuilder statement = new StringBuilder();
    int depth = 0;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      if (c == ';' && depth == 0) {
        statements.add(even(statement.toString()));
        statement.setLength(0);
      } else {
        statement.append(c);
      }
    }
    return statements;
  }

  private static String even(String text) {
    return ATTRIBUTE
        .matcher(text.replaceAll("([{}])", " $1 ").replaceAll("\\s+", " "))
        .replaceAll("")
        .strip();
  }

  private void declare(String statement) {
    if (!statement.contains("mst_")) {
      return; // of the C library
    }
    Matcher struct = STRUCT.matcher(statement);
    Matcher enumeration = ENUM.matcher(statement);
    Matcher function = FUNCTION.matcher(statement);
    if (struct.matches()) {
      structs.put(struct.group(1), fields(struct.group(2)));
    } else if (enumeration.matches()) {
      for (String constant : enumeration.group(1).split(",", -1)) {
        constants.add(constant.replaceAll("=.*", "").strip());
      }
    } else if (function.matches()) {
      functions.put(function.group(2), function(function));
    } else if (!HANDLE.matcher(statement).matches()) {
      throw new IllegalArgumentException("cannot read: " + statement);
    }
  }

  private static Map<String, String> fields(String body) {
    Map<String, String> fields = new LinkedHashMap<>();
    for (String declaration : body.split(";", -1)) {
      Matcher field = FIELD.matcher(declaration.strip());
      if (!declaration.isBlank()) {
        if (!field.matches() || declaration.contains(",")) {
          throw new IllegalArgumentException("cannot read: " + declaration);
        }
        fields.put(field.group(2), declaration.strip());
      }
    }
    return fields;
  }

  private static Function function(Matcher function) {
    String result = function.group(1).strip();
    List<String> types = new ArrayList<>();
    String parameters = function.group(3).strip();
    if (!parameters.equals("void")) {
      for (String declaration : parameters.split(",", -1)) {
        Matcher parameter = PARAMETER.matcher(declaration.strip());
        if (!parameter.matches() || parameter.group(1).isBlank()) {
          throw new IllegalArgumentException("cannot read: " + declaration);
        }
        types.add(parameter.group(1).strip());
      }
    } else {
      parameters = "";
    }
    return new Function(
        result, types, function.group(1) + function.group(2) + "(" + parameters + ")");
  }

  private void define(String line) {
    Matcher macro = MACRO.matcher(line);
    // MST_API is an attribute; what guards against a second inclusion has no value.
    if (macro.matches() && !macro.group(2).startsWith("__attribute__")) {
      constants.add(macro.group(1));
    }
  }

  // ---- from declarations to a program that tells what the compiler makes of them

  private String program() {
    StringBuilder c = new StringBuilder();
    c.append("#include <stddef.h>\n#include <stdio.h>\n#include \"mst_test.h\"\n");
    // As the bindings see a value: i integer, p pointer, r real, otherwise ?; and its bytes.
    c.append("#define KIND(E) \"?i???p??r\"[__builtin_classify_type(E) % 9], sizeof(E)\n");
    c.append("#define VALUE(T) KIND(*(T *)0)\n");
    c.append("int main(void) {\n");
    constants.forEach(name -> c.append(constant(name)));
    structs.forEach((name, fields) -> c.append(struct(name, fields)));
    functions.forEach((name, function) -> c.append(call(name, function)));
    return c.append("  return 0;\n}\n").toString();
  }

  private static String constant(String name) {
    return "  printf(\"%s = %%lld\\n\", (long long)(%s));\n".formatted(name, name);
  }

  private static String struct(String name, Map<String, String> fields) {
    StringBuilder c = new StringBuilder();
    c.append("  printf(\"%s = %%zu bytes\\n\", sizeof(%s));\n".formatted(name, name));
    fields.forEach(
        (field, declaration) -> {
          String access = "((%s *)0)->%s".formatted(name, field);
          String element = declaration.endsWith("]") ? access + "[0]" : access;
          c.append(
              "  printf(\"%s.%s = at %%zu, %%c%%zu x %%zu, %s\\n\", offsetof(%s, %s), KIND(%s), sizeof(%s) / sizeof(%s));\n"
                  .formatted(name, field, declaration, name, field, element, access, element));
        });
    return c.toString();
  }

  private static String call(String name, Function function) {
    String parameters = String.join(", ", function.parameters());
    String format =
        function.parameters().stream().map(p -> "%c%zu").collect(Collectors.joining(", "));
    String kinds =
        function.parameters().stream()
            .map(p -> ", VALUE(%s)".formatted(p))
            .collect(Collectors.joining());
    return """
      _Static_assert(__builtin_types_compatible_p(__typeof__(%1$s), __typeof__(*(%2$s (*)(%3$s))0)), "%1$s");
      printf("%1$s = %%c%%zu(%4$s), %5$s\\n", VALUE(%2$s)%6$s);
    """
        .formatted(
            name,
            function.result(),
            parameters.isEmpty() ? "void" : parameters,
            format,
            function.declaration(),
            kinds);
  }

  // ---- the compiler

  private String compiler(String... arguments) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of("cc", "-std=c11", "-I", headers.toString()));
    command.addAll(List.of(arguments));
    return run(command);
  }

  private String run(List<String> command) throws IOException, InterruptedException {
    Path errors = work.resolve("errors.txt");
    Process process = new ProcessBuilder(command).redirectError(errors.toFile()).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    if (process.waitFor() != 0) {
      throw new IOException(command + " failed:\n" + Files.readString(errors));
    }
    return output;
  }
}
