/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Executables: a graph, compiled into steps over planned memory.
 *
 * Compiling decides, once and for all runs:
 *   what runs      Nodes that no output needs are left out. A matmul whose only use is the addition of a row (a linear
 *                  layer) becomes: fill the result with that row, then multiply onto it.
 *   where it lies  Tensors share a place when one is computed from the other element by element and nobody else reads the
 *                  first: a linear layer and its ReLU both work in the layer's result, which may be an output buffer.
 *                  Places that are not arguments are put into one arena, and overlap there when they are not needed at
 *                  the same time. The arena is scratch of the executing thread. */
#include "executable.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "device.h"
#include "error.h"
#include "graph.h"
#include "scratch.h"
#include "test_hooks.h"

/* ---------------------------------------------------------------------------------------------------- lifetime ---- */

void mst_executable_retain(mst_executable *executable) {
  atomic_fetch_add_explicit(&executable->references, 1, memory_order_relaxed);
}

static void free_executable(mst_executable *executable) {
  free(executable->argument_bytes);
  free(executable->steps);
  executable->tag = MST_TAG_ENDED;
  free(executable);
}

void mst_executable_release(mst_executable *executable) {
  if (atomic_fetch_sub_explicit(&executable->references, 1, memory_order_acq_rel) == 1) {
    mst_device *device = executable->device;
    free_executable(executable);
    atomic_fetch_sub(&mst_live.executables, 1);
    mst_device_release(device);
  }
}

int32_t mst_executable_destroy(mst_executable *executable) {
  MST_ENTER(mst_executable_destroy);
  if (executable == NULL) {
    return MST_OK;
  }
  if (!mst_is(executable, MST_TAG_EXECUTABLE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not an executable");
  }
  mst_executable_release(executable);
  return MST_OK;
}

/* ----------------------------------------------------------------------------------------------------- compile ---- */

/* What the compiler knows of a node. */
typedef struct node_plan {
  int32_t uses;     /* as an operand of needed nodes */
  bool needed;      /* by an output */
  int32_t fused_by; /* a matmul that the addition with this id takes over, or -1 */
  int32_t argument; /* inputs and outputs: their buffer; else -1 */
  int32_t home;     /* the node whose place this one uses: itself or a later one */
  /* Of a home in the arena. */
  int32_t first; /* the node ids at which the place is first written and last read */
  int32_t last;
  uint64_t bytes;
  uint64_t offset;
} node_plan;

typedef struct compiler {
  const mst_graph *graph;
  node_plan *plans;
  mst_executable *executable;
} compiler;

static void find_needed(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t i = 0; i < graph->output_count; i++) {
    compiler->plans[graph->outputs[i]].needed = true;
  }
  for (int32_t id = graph->node_count - 1; id >= 0; id--) {
    const mst_node *node = &graph->nodes[id];
    if (!compiler->plans[id].needed || node->kind == MST_NODE_INPUT) {
      continue;
    }
    compiler->plans[node->a].needed = true;
    compiler->plans[node->a].uses++;
    if (node->b >= 0) {
      compiler->plans[node->b].needed = true;
      compiler->plans[node->b].uses++;
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
}

/* Whether `row` adds the same numbers to each row of `sum`. */
static bool is_row_of(const mst_node *row, const mst_node *sum) {
  return row->rank >= 1 && row->dims[row->rank - 1] == sum->dims[sum->rank - 1] &&
         row->elements == row->dims[row->rank - 1];
}

/* Lets additions of a row take over the matmul before them. */
static void fuse_linear(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].fused_by = -1;
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    const mst_node *sum = &graph->nodes[id];
    if (!compiler->plans[id].needed || sum->kind != MST_NODE_ADD) {
      continue;
    }
    for (int side = 0; side < 2; side++) {
      int32_t product = side == 0 ? sum->a : sum->b;
      const mst_node *row = &graph->nodes[side == 0 ? sum->b : sum->a];
      if (graph->nodes[product].kind == MST_NODE_MATMUL && compiler->plans[product].uses == 1 &&
          !graph->nodes[product].output && graph->nodes[product].elements == sum->elements && is_row_of(row, sum)) {
        compiler->plans[product].fused_by = id;
        break;
      }
    }
  }
}

static bool takes_over_matmul(const compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  return node->kind == MST_NODE_ADD &&
         (compiler->plans[node->a].fused_by == id || compiler->plans[node->b].fused_by == id);
}

/* Lets `operand` of `id` be computed where the result will be, if nobody else reads it. */
static bool share_home(compiler *compiler, int32_t operand, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[operand];
  if (node->kind == MST_NODE_INPUT || node->output || compiler->plans[operand].uses != 1 ||
      node->elements != compiler->graph->nodes[id].elements) {
    return false;
  }
  compiler->plans[operand].home = compiler->plans[id].home;
  return true;
}

static void find_homes(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].home = id;
  }
  for (int32_t id = graph->node_count - 1; id >= 0; id--) {
    const mst_node *node = &graph->nodes[id];
    if (!compiler->plans[id].needed || takes_over_matmul(compiler, id)) {
      continue;
    }
    if (node->kind == MST_NODE_RELU) {
      share_home(compiler, node->a, id);
    } else if (node->kind == MST_NODE_ADD && !share_home(compiler, node->a, id)) {
      share_home(compiler, node->b, id);
    }
  }
}

/* A node of which there is a tensor. */
static bool is_computed(const compiler *compiler, int32_t id) {
  return compiler->plans[id].needed && compiler->graph->nodes[id].kind != MST_NODE_INPUT &&
         compiler->plans[id].fused_by < 0;
}

static void read_at(compiler *compiler, int32_t operand, int32_t id) {
  if (operand >= 0) {
    compiler->plans[compiler->plans[operand].home].last = id;
  }
}

/* Finds out from when to when each place is needed. */
static void find_lifetimes(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    compiler->plans[id].first = -1;
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (!is_computed(compiler, id)) {
      continue;
    }
    const mst_node *node = &graph->nodes[id];
    node_plan *home = &compiler->plans[compiler->plans[id].home];
    if (home->first < 0) {
      home->first = id;
    }
    home->last = id;
    home->bytes = (uint64_t)node->elements * sizeof(float);
    const int32_t operands[2] = {node->a, node->b};
    for (int i = 0; i < 2; i++) {
      if (operands[i] >= 0 && compiler->plans[operands[i]].fused_by == id) {
        read_at(compiler, graph->nodes[operands[i]].a, id);
        read_at(compiler, graph->nodes[operands[i]].b, id);
      } else {
        read_at(compiler, operands[i], id);
      }
    }
  }
}

/* Puts the places that are not arguments into the arena, each at the lowest offset that is free for its whole life.
 * False: the arena would not fit into an address space. */
static bool lay_out_arena(compiler *compiler) {
  const int32_t count = compiler->graph->node_count;
  node_plan *plans = compiler->plans;
  uint64_t end = 0;
  for (int32_t id = 0; id < count; id++) {
    node_plan *place = &plans[id];
    if (place->first < 0 || place->home != id || place->argument >= 0) {
      continue;
    }
    place->bytes = (place->bytes + 63) & ~(uint64_t)63;
    if (place->bytes > INT64_MAX) {
      return false;
    }
    bool moved = true;
    place->offset = 0;
    while (moved) {
      moved = false;
      for (int32_t other = 0; other < id; other++) {
        const node_plan *taken = &plans[other];
        if (taken->first < 0 || taken->home != other || taken->argument >= 0 || taken->last < place->first ||
            place->last < taken->first) {
          continue;
        }
        if (place->offset < taken->offset + taken->bytes && taken->offset < place->offset + place->bytes) {
          place->offset = taken->offset + taken->bytes;
          moved = true;
        }
      }
    }
    if (place->offset > (uint64_t)INT64_MAX - place->bytes) {
      return false;
    }
    if (place->offset + place->bytes > end) {
      end = place->offset + place->bytes;
    }
  }
  compiler->executable->arena_bytes = end;
  return true;
}

static mst_place place_of(const compiler *compiler, int32_t id) {
  const node_plan *home = &compiler->plans[compiler->plans[id].home];
  return (mst_place){home->argument, home->argument >= 0 ? 0 : home->offset};
}

static void emit_matmul(compiler *compiler, int32_t id, mst_place out, bool accumulate) {
  const mst_node *node = &compiler->graph->nodes[id];
  const mst_node *a = &compiler->graph->nodes[node->a];
  const mst_node *b = &compiler->graph->nodes[node->b];
  mst_step *step = &compiler->executable->steps[compiler->executable->step_count++];
  compiler->executable->matmul_count++;
  step->kind = MST_STEP_MATMUL;
  step->a = place_of(compiler, node->a);
  step->b = place_of(compiler, node->b);
  step->out = out;
  mst_product *product = &step->as.matmul.product;
  product->k = a->dims[a->rank - 1];
  product->n = node->dims[node->rank - 1];
  /* With one b for all, the rows of all matrices of a are the rows of one matrix. */
  product->m = b->rank == 2 ? a->elements / product->k : a->dims[a->rank - 2];
  product->transpose_b = node->transpose_b;
  product->accumulate = accumulate;
  step->as.matmul.batch = b->rank == 2 ? 1 : node->elements / (product->m * product->n);
}

static void emit_linear(compiler *compiler, int32_t id) {
  const mst_node *sum = &compiler->graph->nodes[id];
  bool product_first = compiler->plans[sum->a].fused_by == id;
  mst_step *step = &compiler->executable->steps[compiler->executable->step_count++];
  step->kind = MST_STEP_FILL_ROWS;
  step->a = place_of(compiler, product_first ? sum->b : sum->a);
  step->out = place_of(compiler, id);
  step->as.fill.columns = sum->dims[sum->rank - 1];
  step->as.fill.rows = sum->elements / step->as.fill.columns;
  emit_matmul(compiler, product_first ? sum->a : sum->b, step->out, true);
}

static void emit_add(compiler *compiler, int32_t id) {
  const mst_node *sum = &compiler->graph->nodes[id];
  const mst_node *a = &compiler->graph->nodes[sum->a];
  const mst_node *b = &compiler->graph->nodes[sum->b];
  mst_step *step = &compiler->executable->steps[compiler->executable->step_count++];
  step->kind = MST_STEP_ADD;
  step->a = place_of(compiler, sum->a);
  step->b = place_of(compiler, sum->b);
  step->out = place_of(compiler, id);
  mst_broadcast_plan(&step->as.add, a->dims, a->rank, b->dims, b->rank);
}

static void emit_relu(compiler *compiler, int32_t id) {
  const mst_node *node = &compiler->graph->nodes[id];
  mst_step *step = &compiler->executable->steps[compiler->executable->step_count++];
  step->kind = MST_STEP_RELU;
  step->a = place_of(compiler, node->a);
  step->out = place_of(compiler, id);
  step->as.relu_elements = node->elements;
}

static void emit_steps(compiler *compiler) {
  for (int32_t id = 0; id < compiler->graph->node_count; id++) {
    if (!is_computed(compiler, id)) {
      continue;
    }
    switch (compiler->graph->nodes[id].kind) {
      case MST_NODE_MATMUL:
        emit_matmul(compiler, id, place_of(compiler, id), false);
        break;
      case MST_NODE_ADD:
        if (takes_over_matmul(compiler, id)) {
          emit_linear(compiler, id);
        } else {
          emit_add(compiler, id);
        }
        break;
      default:
        emit_relu(compiler, id);
        break;
    }
  }
}

static void describe_arguments(compiler *compiler) {
  const mst_graph *graph = compiler->graph;
  for (int32_t id = 0; id < graph->node_count; id++) {
    int32_t argument = compiler->plans[id].argument;
    if (argument >= 0) {
      compiler->executable->argument_bytes[argument] = (uint64_t)graph->nodes[id].elements * sizeof(float);
    }
  }
}

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
  /* A node gives one step, or, with the matmul that it takes over, two. */
  executable->steps = calloc((size_t)graph->node_count, sizeof(mst_step));
  if (executable->argument_bytes == NULL || executable->steps == NULL) {
    free_executable(executable);
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
  find_lifetimes(&compiler);
  bool fits = lay_out_arena(&compiler);
  if (fits) {
    emit_steps(&compiler);
    describe_arguments(&compiler);
  }
  free(compiler.plans);
  mst_executable *executable = compiler.executable;
  if (!fits) {
    free_executable(executable);
    return MST_FAIL(MST_ERROR_COMPILE, "the intermediate results do not fit into memory");
  }
  mst_device_retain(graph->device);
  executable->tag = MST_TAG_EXECUTABLE;
  atomic_init(&executable->references, 1);
  executable->device = graph->device;
  atomic_fetch_add(&mst_live.executables, 1);
  *out_executable = executable;
  return MST_OK;
}

/* --------------------------------------------------------------------------------------------------------- run ---- */

static bool run_matmul(const mst_executable *executable, const mst_step *step, const float *a, const float *b,
                       float *out) {
  const mst_product *product = &step->as.matmul.product;
  for (int64_t i = 0; i < step->as.matmul.batch; i++) {
    if (!mst_blas_multiply(&executable->device->blas, product, a, b, out)) {
      return false;
    }
    a += product->m * product->k;
    b += product->k * product->n;
    out += product->m * product->n;
  }
  return true;
}

bool mst_executable_run(const mst_executable *executable, mst_buffer *const *arguments) {
  uint8_t *arena = NULL;
  if (executable->arena_bytes > 0) {
    if (executable->arena_bytes > atomic_load_explicit(&executable->device->limit_bytes, memory_order_relaxed)) {
      return false; /* the system might well promise so much, and end the process when it is used */
    }
    arena = mst_scratch(MST_SCRATCH_ARENA, executable->arena_bytes);
    if (arena == NULL) {
      return false;
    }
  }
#define AT(place) ((float *)((place).argument >= 0 ? arguments[(place).argument]->contents : arena + (place).offset))
  bool done = true;
  for (uint32_t i = 0; done && i < executable->step_count; i++) {
    const mst_step *step = &executable->steps[i];
    const float *a = AT(step->a);
    float *out = AT(step->out);
    switch (step->kind) {
      case MST_STEP_FILL_ROWS:
        mst_fill_rows(a, out, step->as.fill.rows, step->as.fill.columns);
        break;
      case MST_STEP_MATMUL:
        done = run_matmul(executable, step, a, AT(step->b), out);
        break;
      case MST_STEP_ADD:
        mst_broadcast_add(&step->as.add, a, AT(step->b), out);
        break;
      default:
        mst_relu(a, out, step->as.relu_elements);
        break;
    }
  }
#undef AT
  mst_scratch_trim();
  return done;
}
