/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_GRAPH_H
#define MST_METAL_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "mst.h"

enum mst_node_kind { MST_NODE_INPUT, MST_NODE_CONSTANT, MST_NODE_MATMUL, MST_NODE_ADD, MST_NODE_RELU };

typedef struct mst_node {
  uint8_t kind;
  bool transpose_b; /* matmul */
  bool output;
  int32_t rank;
  int64_t dims[MST_MAX_RANK];
  int64_t elements;
  int32_t a; /* operands: nodes with lower ids */
  int32_t b;
  void *data; /* constant: an NSData, which graph and executables retain */
} mst_node;

struct mst_graph {
  uint32_t tag;
  mst_device *device;
  mst_node *nodes;
  int32_t node_count;
  int32_t node_capacity;
  int32_t input_count;
  int32_t *outputs;
  int32_t output_count;
  int32_t output_capacity;
};

#endif
