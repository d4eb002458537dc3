package dev.metalstreams.bench;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;

/**
 * ONNX Runtime: one session for all threads, one thread within a call, all optimisations, and
 * inputs and outputs in memory that stays.
 */
final class OnnxEngine implements Engine {
  private static final OrtEnvironment ENVIRONMENT = OrtEnvironment.getEnvironment();

  private final OrtSession session;
  private final int batch;

  OnnxEngine(Network network, int batch, boolean ownAttention) throws OrtException {
    this.batch = batch;
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(1);
      options.setInterOpNumThreads(1);
      options.setExecutionMode(OrtSession.SessionOptions.ExecutionMode.SEQUENTIAL);
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
      this.session = ENVIRONMENT.createSession(OnnxFile.of(network, batch, ownAttention), options);
    }
  }

  static String description() {
    return "ONNX Runtime " + ENVIRONMENT.getVersion();
  }

  private static FloatBuffer floats(int count) {
    return ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  @Override
  public Session session() throws OrtException {
    FloatBuffer x = floats(batch * Network.INPUTS);
    FloatBuffer y = floats(batch * Network.OUTPUTS);
    OnnxTensor input = OnnxTensor.createTensor(ENVIRONMENT, x, new long[] {batch, Network.INPUTS});
    OnnxTensor output =
        OnnxTensor.createTensor(ENVIRONMENT, y, new long[] {batch, Network.OUTPUTS});
    Map<String, OnnxTensor> inputs = Map.of("x", input);
    Map<String, OnnxTensor> outputs = Map.of("y", output);
    return new Session() {
      @Override
      public void run(float[] in, float[] out) throws OrtException {
        x.put(0, in);
        session.run(inputs, outputs).close(); // leaves outputs that were given
        y.get(0, out);
      }

      @Override
      public void close() {
        input.close();
        output.close();
      }
    };
  }

  @Override
  public void close() {
    try {
      session.close();
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }
}
