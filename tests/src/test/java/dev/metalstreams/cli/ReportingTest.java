package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** What prints: JSON, tables, the bar; and the comparison that all verdicts rest on. */
class ReportingTest {

  private static String printed(Consumer<PrintStream> printer) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    printer.accept(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    return bytes.toString(StandardCharsets.UTF_8);
  }

  @Test
  void jsonEscapesAndHasNoInfinities() {
    Json json =
        new Json()
            .put("text", "a\"\n\u0001é")
            .put("nan", Double.NaN)
            .put("infinite", Float.POSITIVE_INFINITY)
            .put("none", null)
            .put("long", Long.MAX_VALUE)
            .put("list", List.of(1, true, new Json().put("x", 0.5)));
    assertThat(json)
        .hasToString(
            """
            {"text":"a\\"\\n\\u0001é","nan":null,"infinite":null,"none":null,"long":9223372036854775807,"list":[1,true,{"x":0.5}]}""");
  }

  @Test
  void tableAlignsItsColumns() {
    assertThat(printed(out -> new Table().row("a", 1).row("long", "x", "y").print(out)).lines())
        .containsExactly("a     1", "long  x  y");
  }

  @Test
  void barIsOnlyForTerminals() {
    assertThat(printed(err -> new Progress(new Output(err, err, false)).show(0.5, "half")))
        .isEmpty();
    String drawn =
        printed(
            err -> {
              Progress progress = new Progress(new Output(err, err, true));
              progress.show(0.5, "half");
              progress.show(7, "more");
              progress.clear();
              progress.clear();
            });
    assertThat(drawn)
        .contains(
            "[###############...............]  50%  half",
            "[##############################] 100%  more")
        .endsWith("\r\033[K");
  }

  @Test
  void figures() {
    assertThat(Figures.bytes(0)).isEqualTo("0 B");
    assertThat(Figures.bytes(1536)).isEqualTo("1.5 KiB");
    assertThat(Figures.bytes(Long.MAX_VALUE)).isEqualTo("8.0 EiB");
    assertThat(Figures.count(1234567)).isEqualTo("1,234,567");
  }

  @Test
  void findingsCountAllAndTellSome() {
    Findings findings = new Findings();
    assertThat(findings.none()).isTrue();
    for (int i = 0; i < 25; i++) {
      findings.mismatch("wrong " + i);
    }
    findings.error("worker", new IllegalStateException("two\nlines"));
    findings.inTheEnd("the end");
    assertThat(findings.none()).isFalse();
    assertThat(findings.mismatches()).isEqualTo(25);
    assertThat(findings.errors()).isEqualTo(2);
    assertThat(findings.told()).hasSize(21);
    assertThat(printed(err -> findings.print(new Output(err, err, false), false)).lines())
        .hasSize(22)
        .endsWith("metalstreams: the end", "metalstreams: and 6 more");
  }

  @Test
  void nothingIsNearNotANumber() {
    Expected expected = new Expected(new float[] {1, 2}, new float[] {0.5f, 0.5f});
    assertThat(expected.firstMismatch(new float[] {1.5f, 1.5f})).isEqualTo(-1);
    assertThat(expected.firstMismatch(new float[] {1, 2.6f})).isEqualTo(1);
    assertThat(expected.firstMismatch(new float[] {Float.NaN, 2})).isEqualTo(0);
    assertThat(
            new Expected(new float[] {Float.NaN}, new float[] {1}).firstMismatch(new float[] {0}))
        .isEqualTo(0);
  }
}
