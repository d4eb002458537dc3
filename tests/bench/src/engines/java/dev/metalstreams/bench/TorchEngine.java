package dev.metalstreams.bench;

import ai.djl.Device;
import ai.djl.MalformedModelException;
import ai.djl.Model;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Block;
import ai.djl.pytorch.engine.PtModel;
import ai.djl.training.ParameterStore;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;

/**
 * PyTorch through the Deep Java Library: one TorchScript module for all threads, one thread within
 * a call, and the input in memory that stays.
 */
final class TorchEngine implements Engine {
  static {
    System.setProperty("ai.djl.offline", "true");
    System.setProperty("OPT_OUT_TRACKING", "true");
    System.setProperty("ai.djl.pytorch.num_threads", "1");
    System.setProperty("ai.djl.pytorch.num_interop_threads", "1");
  }

  private final Model model;
  private final int batch;

  TorchEngine(Network network, int batch, boolean fastPath)
      throws IOException, MalformedModelException {
    this.batch = batch;
    this.model = Model.newInstance(network.kind().label(), Device.cpu(), "PyTorch");
    ((PtModel) model)
        .load(new ByteArrayInputStream(TorchFile.of(network, batch, fastPath)), Map.of());
  }

  static String description() {
    return "PyTorch " + ai.djl.engine.Engine.getEngine("PyTorch").getVersion() + " (DJL)";
  }

  @Override
  public Session session() {
    Block block = model.getBlock();
    NDManager manager = model.getNDManager().newSubManager();
    ParameterStore parameters = new ParameterStore(manager, false);
    ByteBuffer bytes =
        ByteBuffer.allocateDirect(4 * batch * Network.INPUTS).order(ByteOrder.nativeOrder());
    FloatBuffer x = bytes.asFloatBuffer();
    NDArray input = manager.create(bytes, new Shape(batch, Network.INPUTS), DataType.FLOAT32);
    NDList inputs = new NDList(input);
    return new Session() {
      @Override
      public void run(float[] in, float[] out) {
        x.put(0, in);
        try (NDList outputs = block.forward(parameters, inputs, false)) {
          outputs.singletonOrThrow().toByteBuffer().asFloatBuffer().get(0, out);
        }
      }

      @Override
      public void close() {
        manager.close();
      }
    };
  }

  @Override
  public void close() {
    model.close();
  }
}
