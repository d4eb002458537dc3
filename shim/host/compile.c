/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Compiling a graph into steps over planned memory.
 *
 * It decides, once and for all runs:
 *   what runs      Nodes that no output needs are left out. A matmul whose only use is the addition of a row (a linear
 *                  layer) takes that row along.
 *   where it lies  Every node has a layout: a place, an offset in it, and a stride for each axis. Reshape, transpose and
 *                  slice are other layouts of their operand's place wherever those who read them can take that (matmul
 *                  takes any matrix with a unit stride), and copies only where not. A tensor that is computed from
 *                  another one element by element, or row by row, lies in the same place if nobody else reads the first.
 *                  A matmul that is only transposed afterwards, its rows staying rows, writes them where they belong.
 *                  Places that are not arguments are put into one arena, and overlap there when they are not needed at
 *                  the same time. The arena is scratch of the executing thread.
 *   constants      They are kept as they are read; a constant that a matmul reads transposed is transposed here.
 *
 * All is computed in binary32. Inputs of binary16 are widened into the arena, outputs narrowed from there. */
#include <stdlib.h>
#include <string.h>

#include "../common/error.h"
#include "../common/graph.h"
#include "device.h"
#include "executable.h"
#include "test_hooks.h"

/* What the compiler knows of a node. */
typedef struct node_plan {
  int32_t uses;     /* as an operand of needed nodes */
  bool needed;      /* by an output */
  bool view;        /* its elements are where the operand's are: no step */
  int32_t fused_by; /* a matmul that the addition with this id takes over, or -1 */
  int32_t argument; /* inputs and outputs: their buffer; else -1 */
  int32_t home;     /* the node whose place this one uses */
  int64_t offset;   /* the layout in that place, in elements */
  int64_t strides[MST_MAX_RANK];

  /* Of a home. */
  int32_t first; /* the node ids at which the place is first written and last read; -1: never */
  int32_t last;
  int64_t size;  /* elements */
  int64_t start; /* in the arena, or in the constants (-1: not there yet); elements */
} node_plan;

typedef struct compiler {
  const mst_graph *graph;
  node_plan *plans;
  mst_executable *executable;
  float *constants;
  int64_t constant_count;
  int64_t constant_capacity;
  bool out_of_memory;
} compiler;

enum { PLACE_ALIGNMENT = 16 }; /* elements: 64 bytes */

static const mst_node *operand_of(const compiler *compiler, const mst_node *node, int32_t index) {
  return &compiler->graph->nodes[mst_operand(compiler->graph, node, index)];
}

static void dense_strides(const mst_node *node, int64_t *strides) {
  int64_t stride = 1;
  for (int32_t axis = node->rank - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= node->dims[axis];
  }
}

static bool is_dense(const mst_node *node, const int64_t *strides) {
  int64_t stride = 1;
  for (int32_t axis = node->rank - 1; axis >= 0; axis--) {
    if (node->dims[axis] != 1 && strides[axis] != stride) {
      return false;
    }
    stride *= node->dims[axis];
  }
  return true;
}

/* ----------------------------------------------------------------------------------------------------- what runs --- */

static void find_needed(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t i = 0; i < graph->output_count; i++) {
    compiler->plans[graph->outputs[i]].needed = true;
  }
  for (int32_t id = graph->node_count - 1; id >= 0; id--) {
    const mst_node *node = &graph->nodes[id];
    for (int32_t i = 0; compiler->plans[id].needed && i < node->operand_count; i++) {
      node_plan *operand = &compiler->plans[mst_operand(graph, node, i)];
      operand->needed = true;
      operand->uses++;
    }
  }
}

static void number_arguments(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  int32_t argument = 0;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].argument = graph->nodes[id].kind == MST_NODE_INPUT ? argument++ : -1;
  }
  for (int32_t i = 0; i < graph->output_count; i++) {
    compiler->plans[graph->outputs[i]].argument = argument++;
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (compiler->plans[id].argument >= 0) {
      const mst_node *node = &graph->nodes[id];
      compiler->executable->argument_bytes[compiler->plans[id].argument] =
          (uint64_t)(node->elements * mst_dtype_bytes(node->dtype));
    }
  }
}

/* Whether `row` adds the same numbers to each row of `sum`. */
static bool is_row_of(const mst_node *row, const mst_node *sum) {
  return row->rank >= 1 && row->dims[row->rank - 1] == sum->dims[sum->rank - 1] &&
         row->elements == row->dims[row->rank - 1];
}

static bool is_addition(const mst_node *node) {
  return node->kind == MST_NODE_BINARY && node->operation == MST_BINARY_ADD;
}

/* Lets additions of a row take over the matmul before them. */
static void fuse_linear(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].fused_by = -1;
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    const mst_node *sum = &graph->nodes[id];
    if (!compiler->plans[id].needed || !is_addition(sum)) {
      continue;
    }
    for (int side = 0; side < 2; side++) {
      int32_t product = mst_operand(graph, sum, side);
      const mst_node *row = operand_of(compiler, sum, 1 - side);
      if (graph->nodes[product].kind == MST_NODE_MATMUL && compiler->plans[product].uses == 1 &&
          !graph->nodes[product].output && graph->nodes[product].elements == sum->elements && is_row_of(row, sum)) {
        compiler->plans[product].fused_by = id;
        break;
      }
    }
  }
}

/* The side of an addition on which it takes over a matmul, or -1. */
static int32_t fused_side(const compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  for (int32_t side = 0; is_addition(node) && side < 2; side++) {
    if (compiler->plans[mst_operand(compiler->graph, node, side)].fused_by == id) {
      return side;
    }
  }
  return -1;
}

/* A cast that changes no value: all is computed in binary32. */
static bool is_free_cast(const mst_node *node) {
  return node->kind == MST_NODE_CAST && node->dtype == MST_F32;
}

static bool is_rearranging(const mst_node *node) {
  return node->kind == MST_NODE_RESHAPE || node->kind == MST_NODE_TRANSPOSE || node->kind == MST_NODE_SLICE ||
         is_free_cast(node);
}

/* ------------------------------------------------------------------------------------------------------- layouts --- */

/* Whether nobody but its one reader would notice if this tensor were computed in the reader's place. */
static bool may_move(const compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  return node->kind != MST_NODE_INPUT && node->kind != MST_NODE_CONSTANT && !node->output &&
         compiler->plans[id].uses == 1;
}

static bool share_home(compiler *compiler, int32_t operand, int32_t id) {
  if (!may_move(compiler, operand) || compiler->graph->nodes[operand].elements != compiler->graph->nodes[id].elements) {
    return false;
  }
  compiler->plans[operand].home = compiler->plans[id].home;
  return true;
}

/* Lets a matmul write its rows where a transpose, its only reader, would put them. */
static void share_transposed(compiler *compiler, int32_t operand, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  const mst_node *product = &compiler->graph->nodes[operand];
  if (product->kind != MST_NODE_MATMUL || compiler->plans[operand].fused_by >= 0 || !may_move(compiler, operand) ||
      node->as.permutation[node->rank - 1] != node->rank - 1) {
    return;
  }
  int64_t strides[MST_MAX_RANK];
  dense_strides(node, strides);
  node_plan *plan = &compiler->plans[operand];
  plan->home = compiler->plans[id].home;
  for (int32_t axis = 0; axis < node->rank; axis++) {
    plan->strides[node->as.permutation[axis]] = strides[axis];
  }
}

/* Lets tensors be computed in the place of what is computed from them, from the last node to the first. */
static void find_homes(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].home = id;
    dense_strides(&graph->nodes[id], compiler->plans[id].strides);
  }
  for (int32_t id = graph->node_count - 1; id >= 0; id--) {
    const mst_node *node = &graph->nodes[id];
    if (!compiler->plans[id].needed) {
      continue;
    }
    switch (node->kind) {
      case MST_NODE_CAST:
      case MST_NODE_UNARY:
      case MST_NODE_SOFTMAX:
      case MST_NODE_LAYER_NORM:
      case MST_NODE_RESHAPE:
        share_home(compiler, mst_operand(graph, node, 0), id);
        break;
      case MST_NODE_TRANSPOSE:
        share_transposed(compiler, mst_operand(graph, node, 0), id);
        break;
      case MST_NODE_BINARY:
        if (fused_side(compiler, id) < 0 && !share_home(compiler, mst_operand(graph, node, 0), id)) {
          share_home(compiler, mst_operand(graph, node, 1), id);
        }
        break;
      default:
        break;
    }
  }
}

/* Strides with which a reshaped tensor goes through the elements of its operand. False: there are none. */
static bool reshape_strides(const mst_node *operand, const int64_t *strides, const mst_node *node, int64_t *out) {
  /* Groups of axes of both, from the last, that hold the same elements. */
  int32_t from = operand->rank - 1;
  int32_t to = node->rank - 1;
  while (to >= 0) {
    while (from >= 0 && operand->dims[from] == 1) {
      from--;
    }
    if (from < 0) {
      for (; to >= 0; to--) {
        out[to] = 1; /* only ones are left */
      }
      return true;
    }
    int64_t stride = strides[from];
    int64_t from_count = operand->dims[from--];
    int64_t to_count = 1;
    int64_t next = stride;
    for (;;) {
      while (to >= 0 && (to_count < from_count || node->dims[to] == 1)) {
        out[to] = next;
        next *= node->dims[to];
        to_count *= node->dims[to--];
      }
      if (to_count == from_count) {
        break;
      }
      /* The group goes on in the operand, which must be dense there. */
      while (from >= 0 && operand->dims[from] == 1) {
        from--;
      }
      if (from < 0 || strides[from] != stride * from_count) {
        return false;
      }
      from_count *= operand->dims[from--];
    }
  }
  return true;
}

/* The layout of a rearranged tensor in the place of its operand. False: there is none. */
static bool view_layout(const compiler *compiler, const mst_node *node, int64_t *offset, int64_t *strides) {
  const mst_node *operand = operand_of(compiler, node, 0);
  const node_plan *plan = &compiler->plans[mst_operand(compiler->graph, node, 0)];
  *offset = plan->offset;
  switch (node->kind) {
    case MST_NODE_RESHAPE:
      return reshape_strides(operand, plan->strides, node, strides);
    case MST_NODE_TRANSPOSE:
      for (int32_t axis = 0; axis < node->rank; axis++) {
        strides[axis] = plan->strides[node->as.permutation[axis]];
      }
      return true;
    case MST_NODE_SLICE:
      for (int32_t axis = 0; axis < node->rank; axis++) {
        strides[axis] = plan->strides[axis];
        *offset += node->as.starts[axis] * plan->strides[axis];
      }
      return true;
    default:
      memcpy(strides, plan->strides, sizeof(plan->strides));
      return true;
  }
}

/* A matrix in memory: [rows, columns] as they are stored. */
typedef struct matrix {
  int64_t stride; /* from row to row */
  bool transposed;
} matrix;

/* How the last two axes of a layout are a matrix. False: they are none with dense rows. */
static bool matrix_of(const mst_node *node, const int64_t *strides, matrix *out) {
  const int64_t rows = node->dims[node->rank - 2];
  const int64_t columns = node->dims[node->rank - 1];
  const int64_t row_stride = strides[node->rank - 2];
  const int64_t column_stride = strides[node->rank - 1];
  if (column_stride == 1 || columns == 1) {
    *out = (matrix){rows == 1 && row_stride < columns ? columns : row_stride, false};
    return true;
  }
  if (row_stride == 1 || rows == 1) {
    *out = (matrix){columns == 1 && column_stride < rows ? rows : column_stride, true};
    return true;
  }
  return false;
}

/* Whether `reader` can read its operand `id` in this layout. */
static bool can_read(const compiler *compiler, int32_t reader, int32_t id, const int64_t *strides) {
  const mst_node *node = &compiler->graph->nodes[id];
  const mst_node *by = &compiler->graph->nodes[reader];
  if (is_dense(node, strides) || is_rearranging(by) || by->kind == MST_NODE_CONCAT) {
    return true;
  }
  if (by->kind == MST_NODE_MATMUL) {
    matrix ignored;
    return matrix_of(node, strides, &ignored);
  }
  if (by->kind == MST_NODE_BINARY && fused_side(compiler, reader) < 0) {
    /* Along the last axis that counts, the elements must follow one another, or be one for all. */
    for (int32_t back = 1; back <= by->rank; back++) {
      if (by->dims[by->rank - back] != 1) {
        return back > node->rank || node->dims[node->rank - back] == 1 || strides[node->rank - back] == 1;
      }
    }
    return true;
  }
  return false;
}

static bool can_all_read(const compiler *compiler, int32_t id, const int64_t *strides) {
  const mst_graph *graph = compiler->graph;
  int32_t left = compiler->plans[id].uses;
  for (int32_t reader = id + 1; left > 0 && reader < graph->node_count; reader++) {
    const mst_node *node = &graph->nodes[reader];
    for (int32_t i = 0; compiler->plans[reader].needed && i < node->operand_count; i++) {
      if (mst_operand(graph, node, i) == id) {
        left--;
        if (!can_read(compiler, reader, id, strides)) {
          return false;
        }
      }
    }
  }
  return true;
}

/* Lets rearranged tensors be views, from the first node to the last. */
static void find_views(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    const mst_node *node = &graph->nodes[id];
    node_plan *plan = &compiler->plans[id];
    if (!plan->needed || !is_rearranging(node)) {
      continue;
    }
    const node_plan *operand = &compiler->plans[mst_operand(graph, node, 0)];
    if (operand->home == plan->home) {
      plan->view = true; /* what it reads is computed in its place already, and in its layout */
      continue;
    }
    int64_t offset;
    int64_t strides[MST_MAX_RANK];
    if (!node->output && view_layout(compiler, node, &offset, strides) && can_all_read(compiler, id, strides)) {
      plan->view = true;
      plan->home = operand->home;
      plan->offset = offset;
      memcpy(plan->strides, strides, sizeof(strides));
    }
  }
}

/* -------------------------------------------------------------------------------------------------------- places --- */

/* Whether there is a step for a node, at its place in the order of the nodes. */
static bool has_step(const compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  const node_plan *plan = &compiler->plans[id];
  return plan->needed && !plan->view && plan->fused_by < 0 && node->kind != MST_NODE_CONSTANT &&
         (node->kind != MST_NODE_INPUT || node->dtype == MST_F16);
}

/* Whether a place is the buffer of an argument. */
static bool in_argument(const compiler *compiler, int32_t home) {
  return compiler->plans[home].argument >= 0 && compiler->graph->nodes[home].dtype == MST_F32;
}

static bool in_arena(const compiler *compiler, int32_t home) {
  return compiler->plans[home].first >= 0 && compiler->plans[home].home == home && !in_argument(compiler, home);
}

static void read_operands(compiler *compiler, const mst_node *node, int32_t at) {
  for (int32_t i = 0; i < node->operand_count; i++) {
    int32_t operand = mst_operand(compiler->graph, node, i);
    if (compiler->plans[operand].fused_by >= 0) {
      read_operands(compiler, &compiler->graph->nodes[operand], at);
    } else {
      compiler->plans[compiler->plans[operand].home].last = at;
    }
  }
}

/* Finds out from when to when each place is needed. */
static void find_lifetimes(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].first = -1;
    compiler->plans[id].start = -1;
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (!has_step(compiler, id)) {
      continue;
    }
    node_plan *home = &compiler->plans[compiler->plans[id].home];
    if (home->first < 0) {
      home->first = id;
    }
    home->last = id;
    home->size = graph->nodes[id].elements;
    read_operands(compiler, &graph->nodes[id], id);
  }
  for (int32_t i = 0; i < graph->output_count; i++) {
    compiler->plans[compiler->plans[graph->outputs[i]].home].last = graph->node_count;
  }
}

/* Puts the places that are not arguments into the arena, each at the lowest offset that is free for its whole life.
 * False: the arena would not fit into an address space. */
static bool lay_out_arena(compiler *compiler) {
  const int64_t most = INT64_MAX / (int64_t)sizeof(float) - PLACE_ALIGNMENT;
  node_plan *plans = compiler->plans;
  int64_t end = 0;
  for (int32_t id = 0; id < compiler->graph->node_count; id++) {
    node_plan *place = &plans[id];
    if (!in_arena(compiler, id)) {
      continue;
    }
    if (place->size > most) {
      return false;
    }
    place->size = (place->size + PLACE_ALIGNMENT - 1) / PLACE_ALIGNMENT * PLACE_ALIGNMENT;
    place->start = 0;
    bool moved = true;
    while (moved) {
      moved = false;
      for (int32_t other = 0; other < id; other++) {
        const node_plan *taken = &plans[other];
        if (in_arena(compiler, other) && taken->last >= place->first && place->last >= taken->first &&
            place->start < taken->start + taken->size && taken->start < place->start + place->size) {
          place->start = taken->start + taken->size;
          moved = true;
        }
      }
    }
    if (place->start > most - place->size) {
      return false;
    }
    if (place->start + place->size > end) {
      end = place->start + place->size;
    }
  }
  compiler->executable->arena_bytes = (uint64_t)end * sizeof(float);
  return true;
}

/* ----------------------------------------------------------------------------------------------------- constants --- */

/* Room for constants; -1 if there is no memory. */
static int64_t reserve_constants(compiler *compiler, int64_t elements) {
  const int64_t most = INT64_MAX / (int64_t)sizeof(float) / 4;
  if (elements > most || compiler->constant_count > most) {
    compiler->out_of_memory = true;
    return -1;
  }
  const int64_t padded = (elements + PLACE_ALIGNMENT - 1) / PLACE_ALIGNMENT * PLACE_ALIGNMENT;
  if (compiler->constant_capacity - compiler->constant_count < padded) {
    const int64_t capacity = compiler->constant_capacity * 2 + padded;
    float *grown = realloc(compiler->constants, (size_t)capacity * sizeof(float));
    if (grown == NULL) {
      compiler->out_of_memory = true;
      return -1;
    }
    compiler->constants = grown;
    compiler->constant_capacity = capacity;
  }
  const int64_t start = compiler->constant_count;
  compiler->constant_count += padded;
  return start;
}

/* Where a constant lies; 0 if there is no memory. */
static int64_t constant_start(compiler *compiler, int32_t id) {
  node_plan *plan = &compiler->plans[id];
  const mst_node *node = &compiler->graph->nodes[id];
  if (plan->start < 0) {
    const int64_t start = reserve_constants(compiler, node->elements);
    if (start < 0) {
      return 0;
    }
    if (node->dtype == MST_F16) {
      mst_widen((const uint16_t *)node->as.constant->elements, compiler->constants + start, node->elements);
    } else {
      memcpy(compiler->constants + start, node->as.constant->elements, (size_t)node->elements * sizeof(float));
    }
    plan->start = start;
  }
  return plan->start;
}

/* The constants go where they stay. False: no memory. */
static bool keep_constants(compiler *compiler) {
  if (compiler->out_of_memory) {
    return false;
  }
  const size_t bytes = (size_t)compiler->constant_count * sizeof(float);
  void *kept = NULL;
  if (bytes > 0) {
    if (posix_memalign(&kept, PLACE_ALIGNMENT * sizeof(float), bytes) != 0) {
      return false;
    }
    memcpy(kept, compiler->constants, bytes);
  }
  compiler->executable->constants = kept;
  return true;
}

/* --------------------------------------------------------------------------------------------------------- steps --- */

static mst_place place_of(compiler *compiler, int32_t id) {
  const node_plan *plan = &compiler->plans[id];
  const int32_t home = plan->home;
  if (compiler->graph->nodes[home].kind == MST_NODE_CONSTANT) {
    return (mst_place){MST_IN_CONSTANTS, constant_start(compiler, home) + plan->offset};
  }
  if (in_argument(compiler, home)) {
    return (mst_place){compiler->plans[home].argument, plan->offset};
  }
  return (mst_place){MST_IN_ARENA, compiler->plans[home].start + plan->offset};
}

static mst_step *new_step(compiler *compiler, uint8_t kind, int32_t a, int32_t out) {
  mst_step *step = &compiler->executable->steps[compiler->executable->step_count++];
  step->kind = kind;
  step->a = place_of(compiler, a);
  step->out = place_of(compiler, out);
  return step;
}

/* Whether the matrices of a layout lie one below the other, as if they were one. */
static bool is_one_matrix(const mst_node *node, const int64_t *strides, int64_t row_stride) {
  int64_t next = row_stride * node->dims[node->rank - 2];
  for (int32_t axis = node->rank - 3; axis >= 0; axis--) {
    if (node->dims[axis] != 1 && strides[axis] != next) {
      return false;
    }
    next *= node->dims[axis];
  }
  return true;
}

/* Reads a constant [n, k] as the [k, n] that it is to be. */
static void transpose_constant(compiler *compiler, mst_step *step) {
  mst_product *product = &step->as.matmul.product;
  const int64_t start = compiler->out_of_memory ? -1 : reserve_constants(compiler, product->k * product->n);
  if (start < 0) {
    return;
  }
  const float *from = compiler->constants + step->b.offset;
  float *to = compiler->constants + start;
  for (int64_t column = 0; column < product->n; column++) {
    for (int64_t i = 0; i < product->k; i++) {
      to[i * product->n + column] = from[column * product->b_stride + i];
    }
  }
  step->b.offset = start;
  product->b_stride = product->n;
  product->transpose_b = false;
}

/* Multiplies into the place of `out`, which is the product itself or the addition that takes it over. */
static mst_step *emit_matmul(compiler *compiler, int32_t id, int32_t out) {
  const mst_node *node = &compiler->graph->nodes[id];
  const int32_t a_id = mst_operand(compiler->graph, node, 0);
  const int32_t b_id = mst_operand(compiler->graph, node, 1);
  const mst_node *a = &compiler->graph->nodes[a_id];
  const mst_node *b = &compiler->graph->nodes[b_id];
  const int64_t *a_strides = compiler->plans[a_id].strides;
  const int64_t *b_strides = compiler->plans[b_id].strides;
  int64_t c_strides[MST_MAX_RANK];
  if (out == id) {
    memcpy(c_strides, compiler->plans[id].strides, sizeof(c_strides));
  } else {
    dense_strides(node, c_strides); /* the addition may have more dimensions, of 1 */
  }
  matrix a_matrix = {0};
  matrix b_matrix = {0};
  matrix c_matrix = {0};
  matrix_of(a, a_strides, &a_matrix);
  matrix_of(b, b_strides, &b_matrix);
  matrix_of(node, c_strides, &c_matrix);
  mst_step *step = new_step(compiler, MST_STEP_MATMUL, a_id, out);
  compiler->executable->matmul_count++;
  step->b = place_of(compiler, b_id);
  mst_matmul *matmul = &step->as.matmul;
  mst_product *product = &matmul->product;
  *product = (mst_product){
      .m = node->dims[node->rank - 2],
      .n = node->dims[node->rank - 1],
      .k = a->dims[a->rank - (node->transpose_a ? 2 : 1)],
      .a_stride = a_matrix.stride,
      .b_stride = b_matrix.stride,
      .c_stride = c_matrix.stride,
      .transpose_a = node->transpose_a != a_matrix.transposed,
      .transpose_b = node->transpose_b != b_matrix.transposed,
  };
  if (b->rank == 2 && product->transpose_b && step->b.memory == MST_IN_CONSTANTS) {
    transpose_constant(compiler, step);
  }
  if (b->rank == 2 && !node->transpose_a && !a_matrix.transposed && is_one_matrix(a, a_strides, a_matrix.stride) &&
      is_one_matrix(node, c_strides, c_matrix.stride)) {
    product->m = node->elements / product->n; /* with one b for all, the rows of all matrices of a are those of one */
    return step;
  }
  matmul->rank = node->rank - 2;
  for (int32_t axis = 0; axis < matmul->rank; axis++) {
    matmul->dims[axis] = node->dims[axis];
    matmul->a_strides[axis] = a_strides[axis];
    matmul->b_strides[axis] = b->rank == 2 ? 0 : b_strides[axis];
    matmul->c_strides[axis] = c_strides[axis];
  }
  return step;
}

static mst_step *emit_rows(compiler *compiler, uint8_t kind, int32_t a, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  mst_step *step = new_step(compiler, kind, a, id);
  step->as.rows.columns = node->dims[node->rank - 1];
  step->as.rows.rows = node->elements / step->as.rows.columns;
  return step;
}

/* The strides of an operand along the axes of a result with which it is broadcast. */
static void broadcast_strides(const mst_node *operand, const int64_t *strides, const mst_node *node, int64_t *out) {
  for (int32_t axis = 0; axis < node->rank; axis++) {
    int32_t own = axis - (node->rank - operand->rank);
    out[axis] = own < 0 || operand->dims[own] == 1 ? 0 : strides[own];
  }
}

static void emit_binary(compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  const int32_t side = fused_side(compiler, id);
  if (side >= 0) {
    mst_step *step = emit_matmul(compiler, mst_operand(compiler->graph, node, side), id);
    step->as.matmul.adds_row = true;
    step->c = place_of(compiler, mst_operand(compiler->graph, node, 1 - side));
    return;
  }
  int64_t strides[2][MST_MAX_RANK];
  for (int32_t i = 0; i < 2; i++) {
    broadcast_strides(operand_of(compiler, node, i), compiler->plans[mst_operand(compiler->graph, node, i)].strides,
                      node, strides[i]);
  }
  mst_step *step = new_step(compiler, MST_STEP_BINARY, mst_operand(compiler->graph, node, 0), id);
  step->b = place_of(compiler, mst_operand(compiler->graph, node, 1));
  step->operation = node->operation;
  mst_walk_plan(&step->as.walk, node->rank, node->dims, strides[0], strides[1]);
}

/* Copies a tensor in whatever layout into a range of axis `axis` of the result, or into all of it. */
static void emit_copy(compiler *compiler, int32_t operand, int32_t id, int64_t offset) {
  const mst_node *from = &compiler->graph->nodes[operand];
  int64_t strides[MST_MAX_RANK];
  dense_strides(compiler->graph->nodes[id].kind == MST_NODE_CONCAT ? &compiler->graph->nodes[id] : from, strides);
  mst_step *step = new_step(compiler, MST_STEP_COPY, operand, id);
  step->out.offset += offset;
  mst_walk_plan(&step->as.walk, from->rank, from->dims, compiler->plans[operand].strides, strides);
}

static void emit_concat(compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  int64_t strides[MST_MAX_RANK];
  dense_strides(node, strides);
  int64_t offset = 0;
  for (int32_t i = 0; i < node->operand_count; i++) {
    emit_copy(compiler, mst_operand(compiler->graph, node, i), id, offset);
    offset += operand_of(compiler, node, i)->dims[node->as.axis] * strides[node->as.axis];
  }
}

/* A tensor that could not be a view. */
static void emit_rearranged(compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  const int32_t operand = mst_operand(compiler->graph, node, 0);
  if (node->kind == MST_NODE_RESHAPE || is_free_cast(node)) {
    emit_copy(compiler, operand, id, 0); /* the same order of elements */
    return;
  }
  int64_t offset;
  int64_t from[MST_MAX_RANK];
  int64_t to[MST_MAX_RANK];
  view_layout(compiler, node, &offset, from);
  dense_strides(node, to);
  mst_step *step = new_step(compiler, MST_STEP_COPY, operand, id);
  step->a.offset += offset - compiler->plans[operand].offset;
  mst_walk_plan(&step->as.walk, node->rank, node->dims, from, to);
}

static void emit_elements(compiler *compiler, uint8_t kind, int32_t a, int32_t id) {
  mst_step *step = new_step(compiler, kind, a, id);
  step->operation = compiler->graph->nodes[id].operation;
  step->as.elements = compiler->graph->nodes[id].elements;
}

static void emit_node(compiler *compiler, int32_t id) {
  const mst_graph *graph = compiler->graph;
  const mst_node *node = &graph->nodes[id];
  const int32_t a = node->operand_count > 0 ? mst_operand(graph, node, 0) : id;
  switch (node->kind) {
    case MST_NODE_INPUT:
      emit_elements(compiler, MST_STEP_WIDEN, id, id);
      compiler->executable->steps[compiler->executable->step_count - 1].a =
          (mst_place){compiler->plans[id].argument, 0};
      break;
    case MST_NODE_MATMUL:
      emit_matmul(compiler, id, id);
      break;
    case MST_NODE_BINARY:
      emit_binary(compiler, id);
      break;
    case MST_NODE_UNARY:
      emit_elements(compiler, MST_STEP_UNARY, a, id);
      break;
    case MST_NODE_SOFTMAX:
      emit_rows(compiler, MST_STEP_SOFTMAX, a, id);
      break;
    case MST_NODE_LAYER_NORM: {
      mst_step *step = emit_rows(compiler, MST_STEP_LAYER_NORM, a, id);
      step->b = place_of(compiler, mst_operand(graph, node, 1));
      step->c = place_of(compiler, mst_operand(graph, node, 2));
      step->as.rows.eps = node->as.eps;
      break;
    }
    case MST_NODE_MEAN: {
      mst_step *step = new_step(compiler, MST_STEP_MEAN, a, id);
      mst_mean_prepare(&step->as.mean, graph->nodes[a].rank, graph->nodes[a].dims, node->as.axes);
      break;
    }
    case MST_NODE_CONCAT:
      emit_concat(compiler, id);
      break;
    case MST_NODE_CAST:
      if (!is_free_cast(node)) {
        emit_elements(compiler, MST_STEP_ROUND, a, id);
        break;
      }
      emit_rearranged(compiler, id);
      break;
    default:
      emit_rearranged(compiler, id);
      break;
  }
}

static void emit_steps(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (has_step(compiler, id)) {
      emit_node(compiler, id);
    }
  }
  for (int32_t i = 0; i < graph->output_count; i++) {
    const int32_t id = graph->outputs[i];
    if (graph->nodes[id].dtype == MST_F16) {
      emit_elements(compiler, MST_STEP_NARROW, id, id);
      compiler->executable->steps[compiler->executable->step_count - 1].out =
          (mst_place){compiler->plans[id].argument, 0};
    }
  }
}

/* ------------------------------------------------------------------------------------------------------- compile --- */

/* Frees the executable again when false. */
static bool allocate(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  mst_executable *executable = calloc(1, sizeof(mst_executable));
  compiler->executable = executable;
  compiler->plans = calloc((size_t)graph->node_count, sizeof(node_plan));
  if (executable == NULL || compiler->plans == NULL) {
    free(executable);
    return false;
  }
  executable->input_count = (uint32_t)graph->input_count;
  executable->argument_count = (uint32_t)(graph->input_count + graph->output_count);
  executable->argument_bytes = calloc(executable->argument_count, sizeof(uint64_t));
  /* A node gives one step, or one for each operand of a concat; an output may need one more. */
  executable->steps =
      calloc((size_t)graph->node_count + (size_t)graph->operand_count + (size_t)graph->output_count, sizeof(mst_step));
  if (executable->argument_bytes == NULL || executable->steps == NULL) {
    mst_executable_free(executable);
    return false;
  }
  return true;
}

int32_t mst_graph_compile(mst_graph *graph, mst_executable **out_executable) {
  MST_ENTER(mst_graph_compile);
  if (!mst_is(graph, MST_TAG_GRAPH) || out_executable == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no graph or no out-parameter");
  }
  if (graph->output_count == 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the graph has no output");
  }
  compiler compiler = {.graph = graph};
  if (!allocate(&compiler)) {
    free(compiler.plans);
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an executable");
  }
  find_needed(&compiler);
  number_arguments(&compiler);
  fuse_linear(&compiler);
  find_homes(&compiler);
  find_views(&compiler);
  find_lifetimes(&compiler);
  const bool fits = lay_out_arena(&compiler);
  bool kept = false;
  if (fits) {
    emit_steps(&compiler);
    kept = keep_constants(&compiler);
  }
  free(compiler.constants);
  free(compiler.plans);
  mst_executable *executable = compiler.executable;
  if (!fits || !kept) {
    mst_executable_free(executable);
    return fits ? MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for the constants of an executable")
                : MST_FAIL(MST_ERROR_COMPILE, "the intermediate results do not fit into memory");
  }
  mst_device_retain(graph->device);
  executable->tag = MST_TAG_EXECUTABLE;
  atomic_init(&executable->references, 1);
  executable->device = graph->device;
  atomic_fetch_add(&mst_live.executables, 1);
  *out_executable = executable;
  return MST_OK;
}
