package dev.metalstreams.cli;

import dev.metalstreams.DeviceStream;
import dev.metalstreams.Tensor;
import java.util.List;

/**
 * What a stress run runs: a few cases, each with inputs of its own and a known result. Used by any
 * number of threads at once.
 */
interface Workload extends AutoCloseable {

  /** Its name on the command line. */
  String name();

  /** How many cases there are. */
  int cases();

  /** The shape of every result. */
  long[] resultShape();

  /** Uploads the inputs of a case, on the calling thread's stream. The caller closes them. */
  List<Tensor> upload(int number);

  /** Starts the work on those inputs. The caller closes the result. */
  Tensor run(DeviceStream stream, List<Tensor> inputs);

  /** What a case should give. */
  Expected expected(int number);

  /** Gives back what the cases share. */
  @Override
  void close();
}
