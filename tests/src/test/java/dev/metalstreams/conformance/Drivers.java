package dev.metalstreams.conformance;

import java.nio.file.Path;
import java.util.Objects;
import java.util.stream.Stream;

/** The drivers that the conformance tests run on. */
enum Drivers {
  /** The scripted driver, whose waiters park. */
  SCRIPTED {
    @Override
    Subject subject() {
      return new ScriptedSubject(false);
    }
  },
  /** The scripted driver, whose waiters wait in the driver. */
  SCRIPTED_AWAIT {
    @Override
    Subject subject() {
      return new ScriptedSubject(true);
    }
  },
  /** The host shim with two workers and the BLAS that is there. */
  HOST {
    @Override
    Subject subject() {
      return NativeSubject.host(library(), 2, "auto", 0);
    }
  },
  /**
   * The host shim with one worker, which nobody may tie up, an order that is drawn, and the
   * built-in kernel.
   */
  HOST_SINGLE_BUILTIN {
    @Override
    Subject subject() {
      return NativeSubject.host(library(), 1, "builtin", 42);
    }
  },
  /** The Metal shim on the simulated Metal, in the library that the environment names. */
  METAL_SIMULATED {
    @Override
    Subject subject() {
      return NativeSubject.metal(library());
    }
  };

  abstract Subject subject();

  /**
   * Those that this process tests. It can load one native library: the one that {@code
   * METALSTREAMS_LIBRARY} names, or else the packed one.
   */
  static Stream<Drivers> here() {
    return Stream.of(values())
        .filter(each -> (each == METAL_SIMULATED) == backend().equals("metal"));
  }

  /** The backend of the native library that this process tests. */
  static String backend() {
    Path file = Path.of(library()).getFileName();
    return file != null && file.toString().contains("-metal") ? "metal" : "host";
  }

  private static String library() {
    return Objects.requireNonNullElse(System.getenv("METALSTREAMS_LIBRARY"), "");
  }
}
