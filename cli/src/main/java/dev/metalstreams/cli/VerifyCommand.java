package dev.metalstreams.cli;

import dev.metalstreams.Device;
import dev.metalstreams.Executable;
import dev.metalstreams.Tensor;
import dev.metalstreams.safetensors.Safetensors;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** {@code verify}: every operation of a golden file against its stored result. */
final class VerifyCommand implements Command {
  private static final Parameter<Path> GOLDEN =
      Parameter.file(
          "golden", "operations and results, a safetensors file (default: the one that ships)");

  /**
   * How a case went.
   *
   * @param error the largest difference; NaN if a result is none
   * @param tolerance what is allowed where that is
   */
  private record Outcome(String name, float error, float tolerance, boolean ok) {}

  @Override
  public String name() {
    return "verify";
  }

  @Override
  public String summary() {
    return "computes the operations of a golden file and compares with its results";
  }

  @Override
  public String description() {
    return """
        Computes every case of a file on the device and compares with the stored result: |a-b| <= 1e-4 + 1e-4*|b|.

        A case is every name before the first dot; case.y is its result, the others are its operands. The name begins
        with the operation: matmul_, matmul_nt_ (b transposed), bmm_, linear_, linear_nobias_, relu_, gelu_, gelu_tanh_,
        sigmoid_, tanh_, softmax_, layer_norm_, sdpa_, sdpa_causal_, mha_..._hH and encoder_layer_..._hH_ffF, H heads and
        F hidden values, the latter with _relu or _gelu behind it.""";
  }

  @Override
  public List<Parameter<?>> parameters() {
    return List.of(GOLDEN);
  }

  @Override
  public ExitStatus run(Invocation invocation) {
    List<GoldenCase> cases;
    try (Safetensors file =
        invocation.values().find(GOLDEN).map(Safetensors::open).orElseGet(Shipped::golden)) {
      cases = GoldenCase.read(file);
    }
    List<Outcome> outcomes = new ArrayList<>();
    String backend;
    try (Device device = Devices.open(invocation.values(), builder -> {})) {
      backend = device.info().backend();
      for (GoldenCase each : cases) {
        if (invocation.stop().requested()) {
          break;
        }
        outcomes.add(compare(each, compute(device, each)));
      }
    }
    boolean stopped = outcomes.size() < cases.size();
    boolean ok = !stopped && outcomes.stream().allMatch(Outcome::ok);
    if (invocation.json()) {
      new Json()
          .put("ok", ok)
          .put("cases", outcomes.stream().map(VerifyCommand::json).toList())
          .put("backend", backend)
          .put("interrupted", stopped)
          .print(invocation.output().out());
    } else {
      print(outcomes, invocation.output());
    }
    if (stopped) {
      return ExitStatus.INTERRUPTED;
    }
    return ok ? ExitStatus.OK : ExitStatus.CHECK_FAILED;
  }

  private static float[] compute(Device device, GoldenCase golden) {
    List<Tensor> inputs = new ArrayList<>();
    try (Executable executable = device.compile(golden.graph())) {
      for (StoredFloats operand : golden.inputs()) {
        inputs.add(device.tensor(operand.values, operand.shape));
      }
      try (Tensor y = executable.run(inputs.toArray(Tensor[]::new))) {
        return y.toFloats();
      }
    } finally {
      inputs.forEach(Tensor::close);
    }
  }

  private static Outcome compare(GoldenCase golden, float[] got) {
    float worst = 0;
    float tolerance = Tolerance.around(0);
    boolean ok = true;
    for (int i = 0; i < got.length; i++) {
      float want = golden.expected().values[i];
      float error = got[i] == want ? 0 : Math.abs(got[i] - want);
      float allowed = Tolerance.around(want);
      ok &= error <= allowed;
      if (error > worst || Float.isNaN(error)) {
        worst = error;
        tolerance = allowed;
      }
    }
    return new Outcome(golden.name(), worst, tolerance, ok);
  }

  private static Json json(Outcome outcome) {
    return new Json()
        .put("name", outcome.name())
        .put("max_abs_error", outcome.error())
        .put("tolerance", outcome.tolerance())
        .put("ok", outcome.ok());
  }

  private static void print(List<Outcome> outcomes, Output output) {
    Table table = new Table().row("case", "max error", "tolerance", "result");
    for (Outcome outcome : outcomes) {
      table.row(
          outcome.name(), outcome.error(), outcome.tolerance(), outcome.ok() ? "ok" : "FAILED");
    }
    table.print(output.out());
    long failed = outcomes.stream().filter(outcome -> !outcome.ok()).count();
    output.out().println();
    output
        .out()
        .println(
            failed == 0
                ? Figures.count(outcomes.size()) + " cases, all within tolerance"
                : Figures.count(failed) + " of " + outcomes.size() + " cases FAILED");
  }
}
