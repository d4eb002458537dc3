/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_GRAPH_H
#define MST_HOST_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "elementwise.h"
#include "mst.h"
#include "vector.h"

enum mst_node_kind {
  MST_NODE_INPUT,
  MST_NODE_CONSTANT,
  MST_NODE_CAST,
  MST_NODE_MATMUL,
  MST_NODE_BINARY,
  MST_NODE_UNARY,
  MST_NODE_SOFTMAX,
  MST_NODE_LAYER_NORM,
  MST_NODE_MEAN,
  MST_NODE_RESHAPE,
  MST_NODE_TRANSPOSE,
  MST_NODE_CONCAT,
  MST_NODE_SLICE
};

typedef struct mst_node {
  uint8_t kind;
  uint8_t operation; /* binary: enum mst_binary; unary: enum mst_unary */
  uint8_t dtype;
  bool output;
  bool transpose_a; /* matmul */
  bool transpose_b;
  int32_t rank;
  int64_t dims[MST_MAX_RANK];
  int64_t elements;
  int32_t first_operand; /* in the graph's list: nodes with lower ids */
  int32_t operand_count;
  union {
    void *data;                        /* constant: owned, as it was given */
    float eps;                         /* layer norm */
    uint32_t axes;                     /* mean: bit i for axis i */
    int32_t axis;                      /* concat */
    int32_t permutation[MST_MAX_RANK]; /* transpose */
    int64_t starts[MST_MAX_RANK];      /* slice */
  } as;
} mst_node;

struct mst_graph {
  uint32_t tag;
  mst_device *device;
  mst_node *nodes;
  int32_t node_count;
  int32_t node_capacity;
  int32_t *operands;
  int32_t operand_count;
  int32_t operand_capacity;
  int32_t input_count;
  int32_t *outputs;
  int32_t output_count;
  int32_t output_capacity;
};

/* The id of a node's operand. */
static inline int32_t mst_operand(const mst_graph *graph, const mst_node *node, int32_t index) {
  return graph->operands[node->first_operand + index];
}

static inline int64_t mst_dtype_bytes(int32_t dtype) {
  return dtype == MST_F16 ? 2 : 4;
}

#endif
