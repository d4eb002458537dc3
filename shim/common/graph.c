/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Graphs: nodes in the order in which they were added, so that operands come before their uses. What a graph may be is
 * the same for every shim, and decided here; what becomes of it is decided by the shim's mst_graph_compile. */
#include "graph.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "hooks.h"
#include "object.h"

static void release_constant(mst_constant *constant) {
  if (atomic_fetch_sub_explicit(&constant->references, 1, memory_order_acq_rel) == 1) {
    free(constant);
  }
}

int32_t mst_graph_create(mst_device *device, mst_graph **out_graph) {
  MST_ENTER(mst_graph_create);
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
  MST_COUNT_LIVE(graphs, 1);
  *out_graph = graph;
  return MST_OK;
}

int32_t mst_graph_destroy(mst_graph *graph) {
  MST_ENTER(mst_graph_destroy);
  if (graph == NULL) {
    return MST_OK;
  }
  if (!mst_is(graph, MST_TAG_GRAPH)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a graph");
  }
  mst_device *device = graph->device;
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (graph->nodes[id].kind == MST_NODE_CONSTANT) {
      release_constant(graph->nodes[id].as.constant);
    }
  }
  free(graph->nodes);
  free(graph->operands);
  free(graph->outputs);
  graph->tag = MST_TAG_ENDED;
  free(graph);
  MST_COUNT_LIVE(graphs, -1);
  mst_device_release(device);
  return MST_OK;
}

/* Copies an array into memory of its own; NULL if there is none. */
static void *duplicate(const void *array, int32_t count, size_t element) {
  const size_t bytes = (size_t)count * element;
  void *copy = malloc(bytes > 0 ? bytes : 1);
  if (copy != NULL && bytes > 0) {
    memcpy(copy, array, bytes);
  }
  return copy;
}

mst_graph *mst_graph_copy(const mst_graph *graph) {
  mst_graph *copy = malloc(sizeof(mst_graph));
  if (copy == NULL) {
    return NULL;
  }
  *copy = *graph;
  copy->nodes = duplicate(graph->nodes, graph->node_count, sizeof(mst_node));
  copy->operands = duplicate(graph->operands, graph->operand_count, sizeof(int32_t));
  copy->outputs = duplicate(graph->outputs, graph->output_count, sizeof(int32_t));
  if (copy->nodes == NULL || copy->operands == NULL || copy->outputs == NULL) {
    free(copy->nodes);
    free(copy->operands);
    free(copy->outputs);
    free(copy);
    return NULL;
  }
  copy->node_capacity = copy->node_count;
  copy->operand_capacity = copy->operand_count;
  copy->output_capacity = copy->output_count;
  for (int32_t id = 0; id < copy->node_count; id++) {
    if (copy->nodes[id].kind == MST_NODE_CONSTANT) {
      atomic_fetch_add_explicit(&copy->nodes[id].as.constant->references, 1, memory_order_relaxed);
    }
  }
  mst_device_retain(copy->device);
  MST_COUNT_LIVE(graphs, 1);
  return copy;
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

static int32_t fail_shape(const char *function, const mst_node *a, const char *complaint) {
  char shape[SHAPE_TEXT];
  describe(a, shape);
  return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "%s: %s", shape, complaint);
}

static int32_t fail_shapes(const char *function, const mst_node *a, const mst_node *b, const char *complaint) {
  char a_shape[SHAPE_TEXT];
  char b_shape[SHAPE_TEXT];
  describe(a, a_shape);
  describe(b, b_shape);
  return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "%s and %s: %s", a_shape, b_shape, complaint);
}

/* Sets node->elements; false if the tensor's bytes, as they are computed with, do not fit into 63 bits. */
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

/* Makes room for `more` elements behind the first `count`. */
static bool reserve(void **array, int32_t count, int32_t more, int32_t *capacity, size_t element) {
  if (more > INT_MAX / 2 - count) {
    return false;
  }
  int32_t wanted = *capacity == 0 ? 16 : *capacity;
  while (wanted < count + more) {
    wanted *= 2;
  }
  if (wanted == *capacity) {
    return true;
  }
  void *grown = realloc(*array, (size_t)wanted * element);
  if (grown == NULL) {
    return false;
  }
  *array = grown;
  *capacity = wanted;
  return true;
}

/* Appends a node whose dims are valid. */
static int32_t append(mst_graph *graph, mst_node *node, const int32_t *operands, int32_t operand_count,
                      const char *function, int32_t *out_node) {
  if (!count_elements(node)) {
    return fail_shape(function, node, "a tensor of this shape is too large");
  }
  if (!reserve((void **)&graph->nodes, graph->node_count, 1, &graph->node_capacity, sizeof(mst_node)) ||
      !reserve((void **)&graph->operands, graph->operand_count, operand_count, &graph->operand_capacity,
               sizeof(int32_t))) {
    return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a node");
  }
  node->output = false;
  node->first_operand = graph->operand_count;
  node->operand_count = operand_count;
  for (int32_t i = 0; i < operand_count; i++) {
    graph->operands[graph->operand_count++] = operands[i];
  }
  graph->nodes[graph->node_count] = *node;
  *out_node = graph->node_count++;
  return MST_OK;
}

/* Checks what functions that add a node have in common. */
static int32_t check(const mst_graph *graph, const int32_t *operands, int32_t count, const int32_t *out_node,
                     const char *function) {
  if (!mst_is(graph, MST_TAG_GRAPH) || out_node == NULL) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "no graph or no out-parameter");
  }
  for (int32_t i = 0; i < count; i++) {
    if (operands[i] < 0 || operands[i] >= graph->node_count) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the graph has no node %d", operands[i]);
    }
    if (graph->nodes[operands[i]].dtype != graph->nodes[operands[0]].dtype) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "nodes %d and %d have different dtypes", operands[0],
                       operands[i]);
    }
  }
  return MST_OK;
}

/* Checks a shape and writes it to a node. */
static int32_t set_shape(mst_node *node, const int64_t *dims, int32_t rank, const char *function) {
  if (rank < 0 || rank > MST_MAX_RANK || (rank > 0 && dims == NULL)) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "rank %d is not 0 to %d, or there are no dims", rank,
                     MST_MAX_RANK);
  }
  node->rank = rank;
  for (int32_t i = 0; i < rank; i++) {
    if (dims[i] <= 0) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "dimension %d is %lld", i, (long long)dims[i]);
    }
    node->dims[i] = dims[i];
  }
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------- what is given --------- */

int32_t mst_graph_input(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, int32_t *out_node) {
  MST_ENTER(mst_graph_input);
  mst_node node = {.kind = MST_NODE_INPUT, .dtype = (uint8_t)dtype};
  int32_t status = check(graph, NULL, 0, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if (dtype != MST_F32 && dtype != MST_F16) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown dtype %d", dtype);
  }
  status = set_shape(&node, dims, rank, __func__);
  if (status != MST_OK) {
    return status;
  }
  status = append(graph, &node, NULL, 0, __func__, out_node);
  graph->input_count += status == MST_OK;
  return status;
}

int32_t mst_graph_constant(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, const void *data,
                           uint64_t bytes, int32_t *out_node) {
  MST_ENTER(mst_graph_constant);
  mst_node node = {.kind = MST_NODE_CONSTANT, .dtype = (uint8_t)dtype};
  int32_t status = check(graph, NULL, 0, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if ((dtype != MST_F32 && dtype != MST_F16) || data == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown dtype %d, or no data", dtype);
  }
  status = set_shape(&node, dims, rank, __func__);
  if (status != MST_OK) {
    return status;
  }
  if (!count_elements(&node) || bytes != (uint64_t)(node.elements * mst_dtype_bytes(dtype))) {
    char shape[SHAPE_TEXT];
    describe(&node, shape);
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu bytes are not a tensor of shape %s", (unsigned long long)bytes,
                    shape);
  }
  mst_constant *constant =
      bytes > SIZE_MAX - sizeof(mst_constant) ? NULL : malloc(sizeof(mst_constant) + (size_t)bytes);
  if (constant == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a constant of %llu bytes", (unsigned long long)bytes);
  }
  atomic_init(&constant->references, 1);
  constant->bytes = bytes;
  memcpy(constant->elements, data, (size_t)bytes);
  node.as.constant = constant;
  status = append(graph, &node, NULL, 0, __func__, out_node);
  if (status != MST_OK) {
    release_constant(constant);
  }
  return status;
}

int32_t mst_graph_cast(mst_graph *graph, int32_t a, int32_t dtype, int32_t *out_node) {
  MST_ENTER(mst_graph_cast);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if (dtype != MST_F32 && dtype != MST_F16) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown dtype %d", dtype);
  }
  mst_node node = graph->nodes[a];
  node.kind = MST_NODE_CAST;
  node.dtype = (uint8_t)dtype;
  return append(graph, &node, &a, 1, __func__, out_node);
}

/* --------------------------------------------------------------------------------------------- matrix products ----- */

int32_t mst_graph_matmul(mst_graph *graph, int32_t a, int32_t b, uint32_t flags, int32_t *out_node) {
  MST_ENTER(mst_graph_matmul);
  const int32_t operands[] = {a, b};
  int32_t status = check(graph, operands, 2, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if ((flags & ~(uint32_t)(MST_MATMUL_TRANSPOSE_A | MST_MATMUL_TRANSPOSE_B)) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  const mst_node *left = &graph->nodes[a];
  const mst_node *right = &graph->nodes[b];
  if (left->rank < 2 || right->rank < 2) {
    return fail_shapes(__func__, left, right, "both need at least two dimensions");
  }
  bool transpose_a = (flags & MST_MATMUL_TRANSPOSE_A) != 0;
  bool transpose_b = (flags & MST_MATMUL_TRANSPOSE_B) != 0;
  if (left->dims[left->rank - (transpose_a ? 2 : 1)] != right->dims[right->rank - (transpose_b ? 1 : 2)]) {
    return fail_shapes(__func__, left, right,
                       transpose_a   ? "the inner dimensions differ (a is given transposed)"
                       : transpose_b ? "the last dimensions differ (b is given transposed)"
                                     : "the inner dimensions differ");
  }
  if (right->rank != 2 &&
      (right->rank != left->rank || memcmp(left->dims, right->dims, (size_t)(left->rank - 2) * sizeof(int64_t)) != 0)) {
    return fail_shapes(__func__, left, right, "the leading dimensions differ");
  }
  mst_node node = *left;
  node.kind = MST_NODE_MATMUL;
  node.transpose_a = transpose_a;
  node.transpose_b = transpose_b;
  node.dims[node.rank - 2] = left->dims[left->rank - (transpose_a ? 1 : 2)];
  node.dims[node.rank - 1] = right->dims[right->rank - (transpose_b ? 2 : 1)];
  return append(graph, &node, operands, 2, __func__, out_node);
}

/* ------------------------------------------------------------------------------------------ element by element ----- */

static int32_t add_binary(mst_graph *graph, int32_t a, int32_t b, enum mst_binary operation, const char *function,
                          int32_t *out_node) {
  const int32_t operands[] = {a, b};
  int32_t status = check(graph, operands, 2, out_node, function);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *left = &graph->nodes[a];
  const mst_node *right = &graph->nodes[b];
  mst_node node = {.kind = MST_NODE_BINARY,
                   .operation = (uint8_t)operation,
                   .dtype = left->dtype,
                   .rank = left->rank > right->rank ? left->rank : right->rank};
  for (int32_t back = 1; back <= node.rank; back++) {
    int64_t left_dim = back <= left->rank ? left->dims[left->rank - back] : 1;
    int64_t right_dim = back <= right->rank ? right->dims[right->rank - back] : 1;
    if (left_dim != right_dim && left_dim != 1 && right_dim != 1) {
      return fail_shapes(function, left, right, "the shapes do not broadcast");
    }
    node.dims[node.rank - back] = left_dim > right_dim ? left_dim : right_dim;
  }
  return append(graph, &node, operands, 2, function, out_node);
}

int32_t mst_graph_add(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  MST_ENTER(mst_graph_add);
  return add_binary(graph, a, b, MST_BINARY_ADD, __func__, out_node);
}

int32_t mst_graph_subtract(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  MST_ENTER(mst_graph_subtract);
  return add_binary(graph, a, b, MST_BINARY_SUBTRACT, __func__, out_node);
}

int32_t mst_graph_multiply(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  MST_ENTER(mst_graph_multiply);
  return add_binary(graph, a, b, MST_BINARY_MULTIPLY, __func__, out_node);
}

int32_t mst_graph_divide(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node) {
  MST_ENTER(mst_graph_divide);
  return add_binary(graph, a, b, MST_BINARY_DIVIDE, __func__, out_node);
}

static int32_t add_unary(mst_graph *graph, int32_t a, enum mst_unary operation, const char *function,
                         int32_t *out_node) {
  int32_t status = check(graph, &a, 1, out_node, function);
  if (status != MST_OK) {
    return status;
  }
  mst_node node = graph->nodes[a];
  node.kind = MST_NODE_UNARY;
  node.operation = (uint8_t)operation;
  return append(graph, &node, &a, 1, function, out_node);
}

int32_t mst_graph_relu(mst_graph *graph, int32_t a, int32_t *out_node) {
  MST_ENTER(mst_graph_relu);
  return add_unary(graph, a, MST_UNARY_RELU, __func__, out_node);
}

int32_t mst_graph_sigmoid(mst_graph *graph, int32_t a, int32_t *out_node) {
  MST_ENTER(mst_graph_sigmoid);
  return add_unary(graph, a, MST_UNARY_SIGMOID, __func__, out_node);
}

int32_t mst_graph_tanh(mst_graph *graph, int32_t a, int32_t *out_node) {
  MST_ENTER(mst_graph_tanh);
  return add_unary(graph, a, MST_UNARY_TANH, __func__, out_node);
}

int32_t mst_graph_gelu(mst_graph *graph, int32_t a, uint32_t flags, int32_t *out_node) {
  MST_ENTER(mst_graph_gelu);
  if ((flags & ~(uint32_t)MST_GELU_TANH) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  return add_unary(graph, a, flags == MST_GELU_TANH ? MST_UNARY_GELU_TANH : MST_UNARY_GELU_ERF, __func__, out_node);
}

/* ------------------------------------------------------------------------------------------------ row by row ------- */

int32_t mst_graph_softmax(mst_graph *graph, int32_t a, int32_t *out_node) {
  MST_ENTER(mst_graph_softmax);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  mst_node node = graph->nodes[a];
  if (node.rank < 1) {
    return fail_shape(__func__, &node, "there is no last axis");
  }
  node.kind = MST_NODE_SOFTMAX;
  return append(graph, &node, &a, 1, __func__, out_node);
}

int32_t mst_graph_layer_norm(mst_graph *graph, int32_t a, int32_t gamma, int32_t beta, float eps, int32_t *out_node) {
  MST_ENTER(mst_graph_layer_norm);
  const int32_t operands[] = {a, gamma, beta};
  int32_t status = check(graph, operands, 3, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if (!(eps >= 0.0f) || isinf(eps)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "eps is %g, not a finite number of at least 0", (double)eps);
  }
  mst_node node = graph->nodes[a];
  if (node.rank < 1) {
    return fail_shape(__func__, &node, "there is no last axis");
  }
  for (int i = 1; i < 3; i++) {
    const mst_node *parameter = &graph->nodes[operands[i]];
    if (parameter->rank != 1 || parameter->dims[0] != node.dims[node.rank - 1]) {
      return fail_shapes(__func__, &node, parameter,
                         i == 1 ? "gamma is not as long as a row" : "beta is not as long as a row");
    }
  }
  node.kind = MST_NODE_LAYER_NORM;
  node.as.eps = eps;
  return append(graph, &node, operands, 3, __func__, out_node);
}

int32_t mst_graph_mean(mst_graph *graph, int32_t a, const int32_t *axes, int32_t count, uint32_t flags,
                       int32_t *out_node) {
  MST_ENTER(mst_graph_mean);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  if ((flags & ~(uint32_t)MST_MEAN_KEEP_DIMS) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  const mst_node *operand = &graph->nodes[a];
  if (axes == NULL || count < 1) {
    return fail_shape(__func__, operand, "there are no axes");
  }
  mst_node node = {.kind = MST_NODE_MEAN, .dtype = operand->dtype};
  for (int32_t i = 0; i < count; i++) {
    if (axes[i] < 0 || axes[i] >= operand->rank || (node.as.axes >> axes[i] & 1) != 0) {
      return fail_shape(__func__, operand, "an axis is none of its own, or is named twice");
    }
    node.as.axes |= (uint32_t)1 << axes[i];
  }
  for (int32_t axis = 0; axis < operand->rank; axis++) {
    if ((node.as.axes >> axis & 1) == 0) {
      node.dims[node.rank++] = operand->dims[axis];
    } else if ((flags & MST_MEAN_KEEP_DIMS) != 0) {
      node.dims[node.rank++] = 1;
    }
  }
  return append(graph, &node, &a, 1, __func__, out_node);
}

/* ------------------------------------------------------------------------------------------------ rearranging ------ */

int32_t mst_graph_reshape(mst_graph *graph, int32_t a, const int64_t *dims, int32_t rank, int32_t *out_node) {
  MST_ENTER(mst_graph_reshape);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *operand = &graph->nodes[a];
  mst_node node = {.kind = MST_NODE_RESHAPE, .dtype = operand->dtype};
  status = set_shape(&node, dims, rank, __func__);
  if (status != MST_OK) {
    return status;
  }
  if (!count_elements(&node) || node.elements != operand->elements) {
    return fail_shapes(__func__, operand, &node, "the numbers of elements differ");
  }
  return append(graph, &node, &a, 1, __func__, out_node);
}

int32_t mst_graph_transpose(mst_graph *graph, int32_t a, const int32_t *permutation, int32_t count, int32_t *out_node) {
  MST_ENTER(mst_graph_transpose);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *operand = &graph->nodes[a];
  if (count != operand->rank || (count > 0 && permutation == NULL)) {
    return fail_shape(__func__, operand, "the permutation has another length");
  }
  mst_node node = {.kind = MST_NODE_TRANSPOSE, .dtype = operand->dtype, .rank = count};
  uint32_t seen = 0;
  for (int32_t i = 0; i < count; i++) {
    int32_t axis = permutation[i];
    if (axis < 0 || axis >= count || (seen >> axis & 1) != 0) {
      return fail_shape(__func__, operand, "the permutation does not name each axis once");
    }
    seen |= (uint32_t)1 << axis;
    node.dims[i] = operand->dims[axis];
    node.as.permutation[i] = axis;
  }
  return append(graph, &node, &a, 1, __func__, out_node);
}

int32_t mst_graph_concat(mst_graph *graph, const int32_t *nodes, int32_t count, int32_t axis, int32_t *out_node) {
  MST_ENTER(mst_graph_concat);
  if (nodes == NULL || count < 1) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "there are no nodes");
  }
  int32_t status = check(graph, nodes, count, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *first = &graph->nodes[nodes[0]];
  if (axis < 0 || axis >= first->rank) {
    return fail_shape(__func__, first, "the axis is none of its own");
  }
  mst_node node = {.kind = MST_NODE_CONCAT, .dtype = first->dtype, .rank = first->rank, .as.axis = axis};
  memcpy(node.dims, first->dims, sizeof(node.dims));
  for (int32_t i = 1; i < count; i++) {
    const mst_node *next = &graph->nodes[nodes[i]];
    bool fits = next->rank == first->rank;
    for (int32_t other = 0; fits && other < first->rank; other++) {
      fits = other == axis || next->dims[other] == first->dims[other];
    }
    if (!fits) {
      return fail_shapes(__func__, first, next, "other dimensions than that of the axis differ");
    }
    if (__builtin_add_overflow(node.dims[axis], next->dims[axis], &node.dims[axis])) {
      return fail_shapes(__func__, first, next, "together they are too large");
    }
  }
  return append(graph, &node, nodes, count, __func__, out_node);
}

int32_t mst_graph_slice(mst_graph *graph, int32_t a, const int64_t *starts, const int64_t *ends, int32_t count,
                        int32_t *out_node) {
  MST_ENTER(mst_graph_slice);
  int32_t status = check(graph, &a, 1, out_node, __func__);
  if (status != MST_OK) {
    return status;
  }
  const mst_node *operand = &graph->nodes[a];
  if (count != operand->rank || count < 1 || starts == NULL || ends == NULL) {
    return fail_shape(__func__, operand, "there is not one start and one end for each axis");
  }
  mst_node node = {.kind = MST_NODE_SLICE, .dtype = operand->dtype, .rank = count};
  for (int32_t i = 0; i < count; i++) {
    if (starts[i] < 0 || starts[i] >= ends[i] || ends[i] > operand->dims[i]) {
      return fail_shape(__func__, operand, "a range is empty, or not inside");
    }
    node.dims[i] = ends[i] - starts[i];
    node.as.starts[i] = starts[i];
  }
  return append(graph, &node, &a, 1, __func__, out_node);
}

/* ------------------------------------------------------------------------------------------------------ outputs ---- */

int32_t mst_graph_output(mst_graph *graph, int32_t node) {
  MST_ENTER(mst_graph_output);
  if (!mst_is(graph, MST_TAG_GRAPH)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a graph");
  }
  if (node < 0 || node >= graph->node_count) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the graph has no node %d", node);
  }
  const mst_node *made = &graph->nodes[node];
  if (made->kind == MST_NODE_INPUT || made->kind == MST_NODE_CONSTANT || made->output) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "node %d is an input, a constant, or an output already", node);
  }
  if (!reserve((void **)&graph->outputs, graph->output_count, 1, &graph->output_capacity, sizeof(int32_t))) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an output");
  }
  graph->outputs[graph->output_count++] = node;
  graph->nodes[node].output = true;
  return MST_OK;
}
