package dev.metalstreams.bindings;

import dev.metalstreams.bindings.abi.mst_h;
import dev.metalstreams.bindings.abi.mst_test_h;
import java.io.IOException;
import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SequenceLayout;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Reads the ABI out of the bindings: by reflection over the classes, and, for what Java has no word
 * for (signs, names of parameters), from the C declarations that jextract puts over what it makes
 * of them.
 */
final class BindingsReader {
  private static final Pattern C_FUNCTION =
      Pattern.compile("     \\* (\\S.* \\**(mst_\\w+)\\(.*\\))");
  private static final Pattern C_FIELD = Pattern.compile(" \\*     (.*?(\\w+)(?:\\[\\w+\\])?);");

  private final Path sources;

  /** Makes a reader; {@code sources} is the folder of package {@code abi}. */
  BindingsReader(Path sources) {
    this.sources = sources;
  }

  Abi read() throws IOException, ReflectiveOperationException {
    Abi abi = new Abi();
    for (Class<?> functions : List.of(mst_h.class, mst_test_h.class)) {
      String source = source(functions);
      for (Method method : functions.getDeclaredMethods()) {
        if (method.getName().startsWith("MST_")) {
          abi.add(method.getName(), String.valueOf(method.invoke(null)));
        } else if (method.getName().startsWith("mst_") && !method.getName().contains("$")) {
          abi.add(method.getName(), function(method, source));
        }
      }
    }
    for (Class<?> struct : structs()) {
      struct(abi, struct);
    }
    return abi;
  }

  private static String function(Method method, String source) {
    String parameters =
        Arrays.stream(method.getParameterTypes())
            .map(BindingsReader::kind)
            .collect(Collectors.joining(", "));
    return "%s(%s), %s"
        .formatted(
            kind(method.getReturnType()),
            parameters,
            declared(C_FUNCTION, source, method.getName()));
  }

  private void struct(Abi abi, Class<?> struct) throws IOException, ReflectiveOperationException {
    String name = struct.getSimpleName();
    String source = source(struct);
    GroupLayout layout = (GroupLayout) struct.getMethod("layout").invoke(null);
    abi.add(name, layout.byteSize() + " bytes");
    for (MemoryLayout member : layout.memberLayouts()) {
      if (member.name().isEmpty()) {
        continue; // padding
      }
      String field = member.name().get();
      MemoryLayout element = member;
      long count = 1;
      if (member instanceof SequenceLayout array) {
        element = array.elementLayout();
        count = array.elementCount();
      }
      struct.getMethod(field, MemorySegment.class); // the driver reads it with this
      abi.add(
          name + "." + field,
          "at %d, %s x %d, %s"
              .formatted(
                  (long) struct.getMethod(field + "$offset").invoke(null),
                  kind(((ValueLayout) element).carrier()),
                  count,
                  declared(C_FIELD, source, field)));
    }
  }

  private static String kind(Class<?> type) {
    if (type == MemorySegment.class) {
      return "p" + ValueLayout.ADDRESS.byteSize();
    }
    return switch (type.getName()) {
      case "byte" -> "i1";
      case "short" -> "i2";
      case "int" -> "i4";
      case "long" -> "i8";
      case "float" -> "r4";
      case "double" -> "r8";
      default -> "?";
    };
  }

  private static String declared(Pattern declaration, String source, String name) {
    Matcher matcher = declaration.matcher(source);
    while (matcher.find()) {
      if (matcher.group(2).equals(name)) {
        return matcher.group(1);
      }
    }
    return "without its C declaration";
  }

  private String source(Class<?> type) throws IOException {
    return Files.readString(sources.resolve(type.getSimpleName() + ".java"));
  }

  /** Every class of the package that is not one of functions. */
  private static List<Class<?>> structs() throws IOException, ReflectiveOperationException {
    Path folder;
    try {
      folder = Path.of(mst_h.class.getResource("mst_h.class").toURI()).getParent();
    } catch (java.net.URISyntaxException e) {
      throw new IOException(e);
    }
    List<Class<?>> structs = new ArrayList<>();
    try (Stream<Path> files = Files.list(folder)) {
      for (Path file : files.sorted().toList()) {
        String name = file.getFileName().toString().replace(".class", "");
        if (!name.contains("$") && !name.endsWith("_h")) {
          structs.add(Class.forName(mst_h.class.getPackageName() + "." + name));
        }
      }
    }
    return structs;
  }
}
