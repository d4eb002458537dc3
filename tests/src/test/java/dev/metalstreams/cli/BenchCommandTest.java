package dev.metalstreams.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import dev.metalstreams.Device;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import javax.xml.parsers.DocumentBuilderFactory;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** What the tables have, how they are measured, and that wrong results are found. */
@Timeout(120)
class BenchCommandTest {
  private static final String SHORT = " --backend host --duration 100ms --rounds 2";

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          threads --threads 2,1 --size 8  | 2  | threads event.median event_gain device.high event_over_device
          sync --size 8                   | 9  | every rate.low gain us_each
          sizes --sizes 4,8 --threads 1,2 | 2  | size one.median best.median best_threads gain gflops
          alloc                           | 4  | bytes cached.median driver.low gain cached_4_threads.rounds
          overhead                        | 10 | what ns.median
          """)
  void aTableHasItsRows(String line, int rows, String fields) {
    CommandRun run = CommandRun.line("bench " + line + SHORT + " --json");
    assertThat(run.err()).isEmpty();
    assertThat(run.status()).isZero();
    Map<String, @Nullable Object> json = run.json();
    assertThat(json)
        .containsEntry("table", line.split(" ", -1)[0])
        .containsEntry("ok", true)
        .containsEntry("interrupted", false)
        .containsKeys("measured_on.device", "measured_on.machine", "conditions.0");
    for (int row = 0; row < rows; row++) {
      for (String field : fields.split(" ", -1)) {
        assertThat(json.get("rows." + row + "." + field)).as(row + "." + field).isNotNull();
      }
    }
    assertThat(json.keySet()).noneMatch(key -> key.startsWith("rows." + rows + "."));
  }

  @Test
  void numbersOfThreadsComeInRisingOrder() {
    CommandRun run = CommandRun.line("bench threads --threads 3,1,3 --size 8 --json" + SHORT);
    assertThat(run.number("rows.0.threads")).isEqualTo(1);
    assertThat(run.number("rows.1.threads")).isEqualTo(3);
    assertThat(run.number("rows.0.event_gain")).isEqualTo(1);
  }

  @Test
  void batchesAreComparedWithBatchesByHand() {
    CommandRun run =
        CommandRun.line("bench batch --submitters 8 --in-flight 2 --max-batch 16 --json" + SHORT);
    assertThat(run.status()).as(run.err()).isZero();
    for (int queue = 0; queue < 3; queue++) {
      assertThat(run.number("figures.queues." + queue + ".by_hand_batch")).isBetween(1.0, 16.0);
      assertThat(run.number("figures.queues." + queue + ".over_by_hand")).isPositive();
      assertThat(run.number("figures.queues." + queue + ".over_no_batches")).isPositive();
      assertThat(run.number("figures.queues." + queue + ".wait_p99_us")).isPositive();
    }
    assertThat(run.number("figures.max_delay_us")).isZero();
  }

  @Test
  void theTableForPeopleSaysTheConditions() {
    CommandRun run = CommandRun.line("bench sync --size 8" + SHORT);
    assertThat(run.status()).isZero();
    assertThat(run.out())
        .contains("wait every", "x every 1", "its own event", "2 rounds", "host:", "processors");
  }

  // ---- the page

  @Test
  void thePageStandsAlone(@TempDir Path folder) throws Exception {
    Path file = folder.resolve("page.html");
    CommandRun run =
        CommandRun.of(
            ("bench all --threads 1,2 --sizes 4,8 --size 8 --submitters 4 --max-batch 8 --html "
                    + file
                    + SHORT)
                .split(" ", -1));
    assertThat(run.status()).as(run.err()).isZero();
    Document page = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file.toFile());
    assertThat(page.getElementsByTagName("section").getLength()).isEqualTo(7);
    assertThat(page.getElementsByTagName("svg").getLength()).isEqualTo(7);
    NodeList all = page.getElementsByTagName("*");
    for (int i = 0; i < all.getLength(); i++) {
      Element element = (Element) all.item(i);
      assertThat(element.getTagName()).isNotIn("script", "link", "img", "iframe", "object");
      assertThat(element.hasAttribute("src") || element.hasAttribute("href")).isFalse();
    }
    String text = Files.readString(file);
    assertThat(text)
        .doesNotContain("http", "url(", "@import", "NaN", "Infinity")
        .contains("prefers-color-scheme: dark", "rounds in turn", "live for a whole measurement");
    assertThat(page.getElementsByTagName("polyline").getLength()).isGreaterThanOrEqualTo(6);
  }

  @Test
  void textInAPageIsText() {
    assertThat(HtmlPage.text("a<b & c>d")).isEqualTo("a&lt;b &amp; c&gt;d");
  }

  @Test
  void aPlaceThatCannotBeWrittenIsToldBefore(@TempDir Path folder) throws Exception {
    CommandRun.of("bench", "sync", "--html", folder.toString()).assertRefused("is a directory");
    CommandRun.of("bench", "sync", "--html", folder.resolve("none/page.html").toString())
        .assertRefused("there is no directory");
  }

  // ---- Ctrl-C

  @Test
  void whatWasNotMeasuredIsLeftOut() {
    StopSignal stop = new StopSignal();
    stop.request();
    CommandRun run = CommandRun.with(new BenchCommand(), stop, "bench", "all", "--backend", "host");
    assertThat(run.status()).isEqualTo(130);
    assertThat(run.out()).contains("Stopped before the end");
  }

  @Test
  void aStopKeepsTheRoundsBefore() {
    StopSignal stop = new StopSignal();
    Rounds rounds = rounds(stop);
    AtomicInteger calls = new AtomicInteger();
    rounds.add(
        "counted",
        nanos -> {
          if (calls.incrementAndGet() == 4) {
            stop.request();
          }
          return calls.get();
        });
    rounds.run(10, Duration.ofMillis(1));
    assertThat(calls).hasValue(4);
    assertThat(rounds.rate("counted")).contains(new Rate(2.5, 2, 3, 2));
  }

  // ---- how it is measured

  private static Rounds rounds(StopSignal stop) {
    Values values =
        Values.parse(java.util.Optional.empty(), List.copyOf(CommonOptions.ALL), List.of());
    Output output = new Output(System.out, System.err, false);
    return new Rounds(new Invocation(values, output, stop), "test");
  }

  @Test
  void trialsTakeTurnsAndTheFirstRoundDoesNotCount() {
    Rounds rounds = rounds(new StopSignal());
    List<String> order = new ArrayList<>();
    for (String name : List.of("a", "b", "c")) {
      rounds.add(
          name,
          nanos -> {
            order.add(name);
            return order.size() <= 3 ? 1000 : 1;
          });
    }
    rounds.run(4, Duration.ofMillis(15));
    assertThat(order).hasSize(15);
    for (int round = 0; round < 5; round++) {
      assertThat(order.subList(3 * round, 3 * round + 3)).containsExactlyInAnyOrder("a", "b", "c");
    }
    assertThat(rounds.rate("b")).contains(new Rate(1, 1, 1, 4));
  }

  @Test
  void medians() {
    assertThat(Rate.of(List.of(5.0, 1.0, 2.0))).isEqualTo(new Rate(2, 1, 5, 3));
    assertThat(Rate.of(List.of(4.0, 1.0))).isEqualTo(new Rate(2.5, 1, 4, 2));
    Rate nanos = new Rate(1e6, 5e5, 2e6, 3).nanosEach();
    assertThat(nanos.median()).isCloseTo(1000, within(1e-9));
    assertThat(nanos.low()).isCloseTo(500, within(1e-9));
    assertThat(nanos.high()).isCloseTo(2000, within(1e-9));
  }

  /** Threads that run one after the other are not as fast as if they ran at once. */
  @Test
  void threadsShareOneClock() {
    Object turn = new Object();
    Findings findings = new Findings();
    long nanos = 50_000_000;
    double perSecond =
        new ThreadTrial(
                4,
                1,
                () ->
                    new ThreadTrial.Job() {
                      @Override
                      public void run() {
                        synchronized (turn) {
                          long end = System.nanoTime() + 5_000_000;
                          while (System.nanoTime() < end) {
                            Thread.onSpinWait();
                          }
                        }
                      }

                      @Override
                      public void close() {}
                    },
                findings)
            .measure(nanos);
    assertThat(findings.none()).isTrue();
    assertThat(perSecond).as("jobs of 5 ms, one at a time").isLessThanOrEqualTo(201);
  }

  @Test
  void aJobThatFailsIsAFindingAndHoldsNobodyUp() {
    AtomicInteger made = new AtomicInteger();
    Findings findings = new Findings();
    double perSecond =
        new ThreadTrial(
                4,
                1,
                () -> {
                  if (made.getAndIncrement() == 2) {
                    throw new IllegalStateException("planted");
                  }
                  return new ThreadTrial.Job() {
                    @Override
                    public void run() {}

                    @Override
                    public void close() {}
                  };
                },
                findings)
            .measure(1_000_000);
    assertThat(perSecond).as("of the others").isPositive();
    assertThat(findings.told()).hasSize(1).first().asString().contains("planted");
  }

  @Test
  void aWrongProductIsFound() {
    Findings findings = new Findings();
    try (Device device = Device.builder().backend("host").open();
        Products products = new Products(device, 4, 1, findings)) {
      products.whole();
      assertThat(findings.none()).isTrue();
      products.check(new float[16]);
      assertThat(findings.mismatches()).isEqualTo(1);
    }
  }

  @Test
  void bucketsLeaveLittlePadding() {
    assertThat(BatchBench.buckets(1)).containsExactly(1);
    assertThat(BatchBench.buckets(20))
        .containsExactly(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20);
  }
}
