/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Graphs: nodes in the order in which they were added, so that operands come before their uses. */
#include "graph.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "error.h"

int32_t mst_graph_create(mst_device *device, mst_graph **out_graph) {
  if (!mst_is(device, MST_TAG_DEVICE) || out_graph == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  mst_graph *graph = calloc(1, sizeof(mst_graph));
  if (graph == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a graph");
  }
  mst_device_retain(device);
  graph->tag = MST_TAG_GRAPH;
  graph->device = device;
  *out_graph = graph;
  return MST_OK;
}

int32_t mst_graph_destroy(mst_graph *graph) {
  if (graph == NULL) {
    return MST_OK;
  }
  if (!mst_is(graph, MST_TAG_GRAPH)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a graph");
  }
  mst_device *device = graph->device;
  @autoreleasepool {
    for (int32_t i = 0; i < graph->node_count; i++) {
      [(NSData *)graph->nodes[i].data release];
    }
  }
  free(graph->nodes);
  free(graph->outputs);
  graph->tag = MST_TAG_ENDED;
  free(graph);
  mst_device_release(device);
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------------- shapes --- */

enum { SHAPE_TEXT = 200 };

/* Writes a shape as [2, 3]. */
static void describe(const mst_node *node, char out[SHAPE_TEXT]) {
  size_t length = (size_t)snprintf(out, SHAPE_TEXT, "[");
  for (int32_t i = 0; i < node->rank; i++) {
    length += (size_t)snprintf(out + length, SHAPE_TEXT - length, i == 0 ? "%lld" : ", %lld", (long long)node->dims[i]);
  }
  snprintf(out + length, SHAPE_TEXT - length, "]");
}

static int32_t fail_shapes(const char *function, const mst_node *a, const mst_node *b, const char *complaint) {
  char a_shape[SHAPE_TEXT];
  char b_shape[SHAPE_TEXT];
  describe(a, a_shape);
  describe(b, b_shape);
  return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "%s and %s: %s", a_shape, b_shape, complaint);
}

/* Sets node->elements; false if the tensor's bytes do not fit into 63 bits. */
static bool count_elements(mst_node *node) {
  int64_t elements = 1;
  for (int32_t i = 0; i < node->rank; i++) {
    if (__builtin_mul_overflow(elements, node->dims[i], &elements)) {
      return false;
    }
  }
  node->elements = elements;
  return elements <= INT64_MAX / (int64_t)sizeof(float);
}

/* Appends a node whose dims are valid. */
static int32_t append(mst_graph *graph, mst_node *node, const char *function, int32_t *out_node) {
  if (!count_elements(node)) {
    char shape[SHAPE_TEXT];
    describe(node, shape);
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "a tensor of shape %s is too large", shape);
  }
  if (graph->node_count == graph->node_capacity) {
    if (graph->node_capacity > INT_MAX / 2) {
      return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "too many nodes");
    }
    int32_t capacity = graph->node_capacity == 0 ? 16 : graph->node_capacity * 2;
    mst_node *nodes = realloc(graph->nodes, (size_t)capacity * sizeof(mst_node));
    if (nodes == NULL) {
      return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a node");
    }
    graph->nodes = nodes;
    graph->node_capacity = capacity;
  }
  graph->nodes[graph->node_count] = *node;
  *out_node = graph->node_count++;
  return MST_OK;
}

/* Checks what functions that add a node have in common. */
static int32_t check(const mst_graph *graph, int32_t a, int32_t b, const int32_t *out_node, const char *function) {
  if (!mst_is(graph, MST_TAG_GRAPH) || out_node == NULL) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "no graph or no out-parameter");
  }
  if (a < 0 || a >= graph->node_count || b < 0 || b >= graph->node_count) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the graph has no node %d",
                     a < 0 || a >= graph->node_count ? a : b);
  }
  return MST_OK;
}

/* What the header describes and this shim does not do yet. */
static int32_t fail_not_offered(const char *function) {
  return mst_error(MST_ERROR_UNSUPPORTED, function, "the Metal shim does not offer this operation yet");
}

/* -------------------------------------------------------------------------------------------------------- nodes --- */

/* Begins a node of a kind that brings its own shape. */
static int32_t begin_node(const mst_graph *graph, uint8_t kind, int32_t dtype, const int64_t *dims, int32_t rank,
                          const int32_t *out_node, const char *function, mst_node *node) {
  if (!mst_is(graph, MST_TAG_GRAPH) || out_node == NULL) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "no graph or no out-parameter");
  }
  if (dtype != MST_F32) {
    return dtype == MST_F16 ? fail_not_offered(function)
                            : mst_error(MST_ERROR_INVALID_ARGUMENT, function, "unknown dtype %d", dtype);
  }
  if (rank < 0 || rank > MST_MAX_RANK || (rank > 0 && dims == NULL)) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "rank %d is not 0 to %d, or there are no dims", rank,
                     MST_MAX_RANK);
  }
  *node = (mst_node){.kind = kind, .rank = rank, .a = -1, .b = -1};
  for (int32_t i = 0; i < rank; i++) {
    if (dims[i] <= 0) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "dimension %d is %lld", i, (long long)dims[i]);
    }
    node->dims[i] = dims[i];
  }
  return MST_OK;
}

int32_t mst_graph_input(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, int32_t *out_node) {
  mst_node node;
  int32_t status = begin_node(graph, MST_NODE_INPUT, dtype, dims, rank, out_node, __func__, &node);
  if (status != MST_OK) {
    return status;
  }
  status = append(graph, &node, __func__, out_node);
  graph->input_count += status == MST_OK;
  return status;
}

int32_t mst_graph_constant(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, const void *data,
                           uint64_t bytes, int32_t *out_node) {
  @autoreleasepool {
    mst_node node;
    int32_t status = begin_node(graph, MST_NODE_CONSTANT, dtype, dims, rank, out_node, __func__, &node);
    if (status != MST_OK) {
      return status;
    }
    if (data == NULL || !count_elements(&node) || bytes != (uint64_t)node.elements * sizeof(float)) {
      char shape[SHAPE_TEXT];
      describe(&node, shape);
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu bytes are not a tensor of shape %s, or there is no data",
                      (unsigned long long)bytes, shape);
    }
    NSData *elements = [[NSData alloc] initWithBytes:data length:(NSUInteger)bytes];
    node.data = elements;
    status = append(graph, &node, __func__, out_node);
    if (status != MST_OK) {
      [elements release];
    }
    return status;
  }
}

int32_t mst_graph_matmul(mst_graph *graph, int32_t a, int32_t b, uint32_t flags, int32_t *out_node) {
  int32_t status = check(graph, a, b, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if ((flags & MST_MATMUL_TRANSPOSE_A) != 0) {
    return fail_not_offered(__func__);
  }
  if ((flags & ~(uint32_t)MST_MATMUL_TRANSPOSE_B) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  const mst_node *left = &graph->nodes[a];
  const mst_node *right = &graph->nodes[b];
  if (left->rank < 2 || right->rank < 2) {
    return fail_shapes(__func__, left, right, "both need at least two dimensions");
  }
  bool transpose_b = (flags & MST_MATMUL_TRANSPOSE_B) != 0;
  int64_t right_k = right->dims[right->rank - (transpose_b ? 1 : 2)];
  int64_t right_n = right->dims[right->rank - (transpose_b ? 2 : 1)];
  if (left->dims[left->rank - 1] != right_k) {
    return fail_shapes(
        __func__, left, right,
        transpose_b ? "the last dimensions differ (b is given transposed)" : "the inner dimensions differ");
  }
  if (right->rank != 2 &&
      (right->rank != left->rank || memcmp(left->dims, right->dims, (size_t)(left->rank - 2) * sizeof(int64_t)) != 0)) {
    return fail_shapes(__func__, left, right, "the leading dimensions differ");
  }
  mst_node node = *left;
  node.kind = MST_NODE_MATMUL;
  node.data = NULL;
  node.output = false;
  node.transpose_b = transpose_b;
  node.dims[node.rank - 1] = right_n;
  node.a = a;
  node.b = b;
  return append(graph, &node, __func__, out_node);
}

int32_t mst_graph_add(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  int32_t status = check(graph, a, b, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *left = &graph->nodes[a];
  const mst_node *right = &graph->nodes[b];
  mst_node node = {.kind = MST_NODE_ADD, .rank = left->rank > right->rank ? left->rank : right->rank, .a = a, .b = b};
  for (int32_t back = 1; back <= node.rank; back++) {
    int64_t left_dim = back <= left->rank ? left->dims[left->rank - back] : 1;
    int64_t right_dim = back <= right->rank ? right->dims[right->rank - back] : 1;
    if (left_dim != right_dim && left_dim != 1 && right_dim != 1) {
      return fail_shapes(__func__, left, right, "the shapes do not broadcast");
    }
    node.dims[node.rank - back] = left_dim > right_dim ? left_dim : right_dim;
  }
  return append(graph, &node, __func__, out_node);
}

int32_t mst_graph_relu(mst_graph *graph, int32_t a, int32_t *out_node) {
  int32_t status = check(graph, a, a, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  mst_node node = graph->nodes[a];
  node.kind = MST_NODE_RELU;
  node.data = NULL;
  node.output = false;
  node.a = a;
  node.b = -1;
  return append(graph, &node, __func__, out_node);
}

int32_t mst_graph_output(mst_graph *graph, int32_t node) {
  if (!mst_is(graph, MST_TAG_GRAPH)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a graph");
  }
  if (node < 0 || node >= graph->node_count) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the graph has no node %d", node);
  }
  if (graph->nodes[node].kind == MST_NODE_INPUT || graph->nodes[node].kind == MST_NODE_CONSTANT ||
      graph->nodes[node].output) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "node %d is an input or a constant, or an output already", node);
  }
  if (graph->output_count == graph->output_capacity) {
    int32_t capacity = graph->output_capacity == 0 ? 4 : graph->output_capacity * 2;
    int32_t *outputs = realloc(graph->outputs, (size_t)capacity * sizeof(int32_t));
    if (outputs == NULL) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an output");
    }
    graph->outputs = outputs;
    graph->output_capacity = capacity;
  }
  graph->outputs[graph->output_count++] = node;
  graph->nodes[node].output = true;
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------- not yet -------- */

int32_t mst_graph_cast(mst_graph *graph, int32_t a, int32_t dtype, int32_t *out_node) {
  (void)graph, (void)a, (void)dtype, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_subtract(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  (void)graph, (void)a, (void)b, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_multiply(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  (void)graph, (void)a, (void)b, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_divide(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  (void)graph, (void)a, (void)b, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_sigmoid(mst_graph *graph, int32_t a, int32_t *out_node) {
  (void)graph, (void)a, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_tanh(mst_graph *graph, int32_t a, int32_t *out_node) {
  (void)graph, (void)a, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_gelu(mst_graph *graph, int32_t a, uint32_t flags, int32_t *out_node) {
  (void)graph, (void)a, (void)flags, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_softmax(mst_graph *graph, int32_t a, int32_t *out_node) {
  (void)graph, (void)a, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_layer_norm(mst_graph *graph, int32_t a, int32_t gamma, int32_t beta, float eps, int32_t *out_node) {
  (void)graph, (void)a, (void)gamma, (void)beta, (void)eps, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_mean(mst_graph *graph, int32_t a, const int32_t *axes, int32_t count, uint32_t flags,
                       int32_t *out_node) {
  (void)graph, (void)a, (void)axes, (void)count, (void)flags, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_reshape(mst_graph *graph, int32_t a, const int64_t *dims, int32_t rank, int32_t *out_node) {
  (void)graph, (void)a, (void)dims, (void)rank, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_transpose(mst_graph *graph, int32_t a, const int32_t *permutation, int32_t count, int32_t *out_node) {
  (void)graph, (void)a, (void)permutation, (void)count, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_concat(mst_graph *graph, const int32_t *nodes, int32_t count, int32_t axis, int32_t *out_node) {
  (void)graph, (void)nodes, (void)count, (void)axis, (void)out_node;
  return fail_not_offered(__func__);
}

int32_t mst_graph_slice(mst_graph *graph, int32_t a, const int64_t *starts, const int64_t *ends, int32_t count,
                        int32_t *out_node) {
  (void)graph, (void)a, (void)starts, (void)ends, (void)count, (void)out_node;
  return fail_not_offered(__func__);
}
