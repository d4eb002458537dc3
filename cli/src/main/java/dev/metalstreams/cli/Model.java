package dev.metalstreams.cli;

import dev.metalstreams.Graph;

/** A classifier from a file, its weights included. Immutable. */
interface Model {

  /** Values that a sample has. */
  int inputs();

  /** Values that a result has. */
  int outputs();

  /**
   * The model for a batch: one input {@code x} [batch, inputs], one output {@code y} [batch,
   * outputs]. Its weights are constants of the graph.
   */
  Graph graph(int batch);
}
