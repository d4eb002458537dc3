package dev.metalstreams;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** A process of its own for {@link PriorSuiteTest}: works on a device and ends in some way. */
final class PriorSuiteChild {
  private static final List<Tensor> KEPT = new ArrayList<>();

  private PriorSuiteChild() {}

  /** How a child ended: exit status, standard output and standard error without line ends. */
  record Ended(int status, String out, String err) {}

  static Ended run(String what) throws IOException, InterruptedException {
    Path folder = Files.createTempDirectory("prior-suite");
    Path out = folder.resolve("out");
    Path err = folder.resolve("err");
    Process child =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-XX:ErrorFile=" + folder.resolve("crash"),
                "-classpath",
                System.getProperty("java.class.path"),
                PriorSuiteChild.class.getName(),
                what)
            .redirectOutput(out.toFile())
            .redirectError(err.toFile())
            .start();
    try {
      if (!child.waitFor(120, TimeUnit.SECONDS)) {
        throw new AssertionError("the child does not end: " + what);
      }
      return new Ended(
          child.exitValue(),
          Files.readString(out, StandardCharsets.UTF_8).strip(),
          Files.readString(err, StandardCharsets.UTF_8).strip());
    } finally {
      child.destroyForcibly();
      Files.deleteIfExists(folder.resolve("crash"));
      Files.deleteIfExists(out);
      Files.deleteIfExists(err);
      Files.deleteIfExists(folder);
    }
  }

  private static String squares(Device device) {
    Graph graph =
        Graph.build(
            g -> {
              Node x = g.input("x", DType.F32, 100);
              g.output("y", g.multiply(x, x));
            });
    float[] numbers = new float[100];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = i;
    }
    try (Executable program = device.compile(graph);
        Tensor x = device.tensor(numbers, 100);
        Tensor y = program.run(x)) {
      float[] result = y.toFloats();
      for (int i = 0; i < numbers.length; i++) {
        if (result[i] != (float) i * i) {
          return "wrong at " + i + ": " + result[i];
        }
      }
    }
    return "right";
  }

  private static Device host() {
    return Device.builder().backend("host").leaks(LeakLevel.DISABLED).open();
  }

  public static void main(String[] arguments) throws InterruptedException {
    switch (arguments[0]) {
      case "computes" -> {
        try (Device device = host()) {
          System.out.println(squares(device));
        }
      }
      case "tensorsAtExit" -> { // the device is not closed either
        Device device = host();
        for (int i = 0; i < 20; i++) {
          KEPT.add(device.tensor(new float[] {i}, 1));
          device.streams().current().fill(KEPT.get(i).buffer(), (byte) i);
        }
        System.out.println(squares(device));
      }
      case "shutdownHook" -> {
        Device device = host();
        Runtime.getRuntime()
            .addShutdownHook(
                new Thread(
                    () -> {
                      System.out.println(squares(device));
                      device.close();
                    }));
      }
      case "threadsAtExit" -> {
        Device device = host();
        CountDownLatch working = new CountDownLatch(8);
        for (int i = 0; i < 8; i++) {
          Thread.ofPlatform()
              .daemon()
              .start(
                  () -> {
                    while (squares(device).equals("right")) {
                      working.countDown();
                    }
                    System.out.println("wrong on a thread");
                  });
        }
        working.await(); // each has done some, and goes on
        System.out.println(squares(device));
      }
      default -> throw new IllegalArgumentException(arguments[0]);
    }
  }
}
