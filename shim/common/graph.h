/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_GRAPH_H
#define MST_GRAPH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mst.h"

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

enum mst_unary {
  MST_UNARY_RELU,
  MST_UNARY_SIGMOID,
  MST_UNARY_TANH,
  MST_UNARY_GELU_ERF,
  MST_UNARY_GELU_TANH,
  MST_UNARY_COUNT
};

enum mst_binary { MST_BINARY_ADD, MST_BINARY_SUBTRACT, MST_BINARY_MULTIPLY, MST_BINARY_DIVIDE, MST_BINARY_COUNT };

/* Elements as they were given. Graphs share them: the references are counted. */
typedef struct mst_constant {
  atomic_uint references;
  uint64_t bytes;
  _Alignas(16) uint8_t elements[];
} mst_constant;

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
    mst_constant *constant;            /* constant */
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

/* Another graph of the same device and the same nodes, as they are now; NULL if there is no memory. It ends with
 * mst_graph_destroy. */
mst_graph *mst_graph_copy(const mst_graph *graph);

/* The id of a node's operand. */
static inline int32_t mst_operand(const mst_graph *graph, const mst_node *node, int32_t index) {
  return graph->operands[node->first_operand + index];
}

static inline int64_t mst_dtype_bytes(int32_t dtype) {
  return dtype == MST_F16 ? 2 : 4;
}

#endif
