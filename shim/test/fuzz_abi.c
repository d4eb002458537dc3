/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A libFuzzer target: any sequence of calls, valid or not, with handles that live. What is checked: no sanitizer
 * complains, nothing lives at the end, and each result is one that the model in abi_model.c allows.
 *
 *     cmake -S shim -B build -DMST_SANITIZE=fuzzer-no-link,address,undefined -DCMAKE_C_COMPILER=clang
 *     cmake --build build --target fuzz_abi && build/test/fuzz_abi -max_total_time=60 */
#include <math.h>

#include "abi_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
  const uint8_t *data;
  size_t size;
} input;

/* The queues that calls draw from; the last queue is one of the host, for waits and signals. */
enum { DRAWN = QUEUES - 1 };

static struct {
  mst_device *devices[DEVICES];
  mst_queue *queues[QUEUES];
  mst_buffer *buffers[BUFFERS];
  mst_graph *graphs[GRAPHS];
  mst_executable *executables[EXECUTABLES];
  uint64_t next_queue_id;
} live;

static uint8_t byte(input *in) {
  if (in->size == 0) {
    return 0;
  }
  in->size--;
  return *in->data++;
}

/* A length, offset or value: mostly small, sometimes at an end of the range. */
static uint64_t number(input *in) {
  uint8_t choice = byte(in);
  switch (choice) {
    case 255:
      return UINT64_MAX;
    case 254:
      return (uint64_t)INT64_MAX;
    case 253:
      return UINT64_MAX - byte(in);
    case 252:
      return (uint64_t)1 << (byte(in) % 64);
    default:
      return choice;
  }
}

/* A queue, or now and then an object of another type, or NULL. */
static mst_queue *any_queue(input *in) {
  uint8_t choice = byte(in);
  return choice == 255 ? (mst_queue *)live.buffers[0] : live.queues[choice % DRAWN];
}

static mst_buffer *any_buffer(input *in) {
  uint8_t choice = byte(in);
  return choice == 255 ? (mst_buffer *)live.queues[0] : live.buffers[choice % BUFFERS];
}

/* The value that fits, or another. */
static uint64_t any_value(input *in, const mst_queue *queue) {
  uint8_t choice = byte(in);
  uint64_t next = model_next_value(queue);
  return choice < 200 ? next : choice < 240 ? next - (choice - 199u) : number(in);
}

/* The first device, mostly. */
static mst_device *any_device(input *in) {
  return live.devices[byte(in) % 16 == 15];
}

static void create_something(input *in) {
  mst_device *device = any_device(in);
  switch (byte(in) % 3) {
    case 0: {
      int at = byte(in) % DRAWN;
      uint8_t most = byte(in);
      if (live.queues[at] == NULL) {
        /* Few in flight, mostly, so that it is soon too many; now and then with the id of another. */
        uint64_t id = live.next_queue_id++;
        if (most % 8 == 6) {
          checked_queue_create_host(device, id, &live.queues[at]);
          break;
        }
        checked_queue_create(device, most % 16 == 15 ? model_taken_id(device, id) : id,
                             most < 128 ? most % 4u : most % 70u, &live.queues[at]);
      }
      break;
    }
    case 1: {
      int at = byte(in) % BUFFERS;
      if (live.buffers[at] == NULL) {
        uint64_t bytes = number(in);
        checked_buffer_create(device, bytes, byte(in) % 3, &live.buffers[at]);
      }
      break;
    }
    default: {
      int at = byte(in) % GRAPHS;
      if (live.graphs[at] == NULL) {
        checked_graph_create(device, &live.graphs[at]);
      }
      break;
    }
  }
}

static void destroy_something(input *in) {
  switch (byte(in) % 4) {
    case 0: {
      int at = byte(in) % DRAWN;
      checked_queue_destroy(live.queues[at]);
      live.queues[at] = NULL;
      break;
    }
    case 1: {
      int at = byte(in) % BUFFERS;
      if (checked_buffer_destroy(live.buffers[at]) == MST_OK) {
        live.buffers[at] = NULL;
      }
      break;
    }
    case 2: {
      int at = byte(in) % GRAPHS;
      checked_graph_destroy(live.graphs[at]);
      live.graphs[at] = NULL;
      break;
    }
    default: {
      int at = byte(in) % EXECUTABLES;
      checked_executable_destroy(live.executables[at]);
      live.executables[at] = NULL;
      break;
    }
  }
}

/* A node of the graph, mostly. */
static int32_t any_node(input *in) {
  return (int8_t)byte(in) % 16;
}

static int64_t any_dim(input *in) {
  uint8_t choice = byte(in);
  return choice < 250 ? choice % 4 + 1 : (int64_t)number(in);
}

static int32_t any_dtype(input *in) {
  uint8_t choice = byte(in);
  return choice < 128 ? MST_F32 : choice < 250 ? MST_F16 : choice - 252;
}

static void any_dims(input *in, int64_t dims[MST_MAX_RANK]) {
  for (int i = 0; i < MST_MAX_RANK; i++) {
    dims[i] = any_dim(in);
  }
}

/* 0 to 4, or now and then a rank that no tensor has. */
static int32_t any_rank(input *in) {
  uint8_t choice = byte(in);
  return choice < 250 ? choice % 5 : choice - 245;
}

static int32_t add_constant(input *in, mst_graph *graph, int32_t *node) {
  static const float DATA[64] = {1, -1, 0.5f, INFINITY};
  int64_t dims[MST_MAX_RANK];
  any_dims(in, dims);
  int32_t dtype = any_dtype(in);
  int32_t rank = any_rank(in) % 4;
  uint64_t bytes = dtype == MST_F16 ? 2 : 4;
  for (int i = 0; i < rank; i++) {
    bytes *= (uint64_t)dims[i];
  }
  if (byte(in) % 16 == 0) {
    bytes = number(in);
  }
  return mst_graph_constant(graph, dtype, dims, rank, bytes <= sizeof(DATA) ? DATA : NULL, bytes, node);
}

static int32_t add_elementwise(input *in, mst_graph *graph, int32_t *node) {
  int32_t a = any_node(in);
  switch (byte(in) % 9) {
    case 0:
      return mst_graph_add(graph, a, any_node(in), node);
    case 1:
      return mst_graph_subtract(graph, a, any_node(in), node);
    case 2:
      return mst_graph_multiply(graph, a, any_node(in), node);
    case 3:
      return mst_graph_divide(graph, a, any_node(in), node);
    case 4:
      return mst_graph_relu(graph, a, node);
    case 5:
      return mst_graph_sigmoid(graph, a, node);
    case 6:
      return mst_graph_tanh(graph, a, node);
    case 7:
      return mst_graph_gelu(graph, a, byte(in) % 3, node);
    default:
      return mst_graph_cast(graph, a, any_dtype(in), node);
  }
}

static int32_t add_rows(input *in, mst_graph *graph, int32_t *node) {
  int32_t a = any_node(in);
  switch (byte(in) % 3) {
    case 0:
      return mst_graph_softmax(graph, a, node);
    case 1: {
      int32_t gamma = any_node(in);
      uint8_t eps = byte(in);
      return mst_graph_layer_norm(graph, a, gamma, any_node(in), eps == 255 ? NAN : (float)(eps - 1) / 64, node);
    }
    default: {
      int32_t axes[4];
      for (int i = 0; i < 4; i++) {
        axes[i] = (int8_t)byte(in) % 4;
      }
      return mst_graph_mean(graph, a, axes, byte(in) % 5, byte(in) % 3, node);
    }
  }
}

static int32_t add_rearranged(input *in, mst_graph *graph, int32_t *node) {
  int32_t a = any_node(in);
  switch (byte(in) % 4) {
    case 0: {
      int64_t dims[MST_MAX_RANK];
      any_dims(in, dims);
      return mst_graph_reshape(graph, a, dims, any_rank(in), node);
    }
    case 1: {
      /* Rotated, which is right for the rank; or whatever comes. */
      int32_t permutation[MST_MAX_RANK];
      int32_t count = any_rank(in);
      uint8_t turn = byte(in);
      for (int32_t i = 0; i < MST_MAX_RANK; i++) {
        permutation[i] = turn < 200 && count > 0 ? (i + turn) % count : (int8_t)byte(in) % 4;
      }
      return mst_graph_transpose(graph, a, permutation, count, node);
    }
    case 2: {
      int32_t nodes[4];
      for (int i = 0; i < 4; i++) {
        nodes[i] = i == 0 || byte(in) % 2 == 0 ? a : any_node(in);
      }
      return mst_graph_concat(graph, nodes, (int8_t)byte(in) % 5, (int8_t)byte(in) % 4, node);
    }
    default: {
      int64_t starts[MST_MAX_RANK];
      int64_t ends[MST_MAX_RANK];
      for (int i = 0; i < MST_MAX_RANK; i++) {
        starts[i] = (int64_t)((uint64_t)any_dim(in) - 1);
        ends[i] = (int64_t)((uint64_t)(starts[i] / 2) + (uint64_t)any_dim(in));
      }
      return mst_graph_slice(graph, a, starts, ends, any_rank(in), node);
    }
  }
}

/* Also tells its size. */
static int32_t add_input(input *in, mst_graph *graph, int32_t *node, uint64_t *out_bytes) {
  int64_t dims[MST_MAX_RANK];
  any_dims(in, dims);
  int32_t dtype = any_dtype(in);
  int32_t rank = any_rank(in);
  *out_bytes = dtype == MST_F16 ? 2 : 4;
  for (int i = 0; i < rank && i < MST_MAX_RANK; i++) {
    *out_bytes *= (uint64_t)dims[i];
  }
  return mst_graph_input(graph, dtype, dims, rank, node);
}

static void build_something(input *in) {
  mst_graph *graph = live.graphs[byte(in) % GRAPHS];
  int32_t node = -7;
  int32_t status = MST_OK;
  enum node_kind kind = NODE_COMPUTED;
  uint64_t bytes = 0;
  switch (byte(in) % 10) {
    case 0:
      kind = NODE_INPUT;
      status = add_input(in, graph, &node, &bytes);
      break;
    case 1:
      kind = NODE_CONSTANT;
      status = add_constant(in, graph, &node);
      break;
    case 2: {
      int32_t a = any_node(in);
      int32_t b = any_node(in);
      status = mst_graph_matmul(graph, a, b, byte(in) % 5, &node);
      break;
    }
    case 3:
    case 4:
      status = add_elementwise(in, graph, &node);
      break;
    case 5:
      status = add_rows(in, graph, &node);
      break;
    case 6:
    case 7:
      status = add_rearranged(in, graph, &node);
      break;
    case 8:
      checked_graph_output(graph, any_node(in));
      return;
    default: {
      int at = byte(in) % EXECUTABLES;
      if (live.executables[at] == NULL) {
        checked_graph_compile(graph, &live.executables[at]);
      }
      return;
    }
  }
  checked_node(graph, status, node, kind, bytes);
  CHECK(status == MST_OK || node == -7);
}

static void commit(input *in, mst_queue *queue) {
  uint64_t value = any_value(in, queue);
  checked_commands_commit(queue, value, byte(in) % 5u);
}

static void encode_something(input *in) {
  int at = byte(in) % DRAWN;
  mst_queue *queue = byte(in) == 255 ? any_queue(in) : live.queues[at];
  uint64_t value = any_value(in, queue);
  if (byte(in) % 8 != 0) {
    checked_commands_begin(live.queues[at], model_next_value(live.queues[at])); /* often, one is open already */
  }
  switch (byte(in) % 5) {
    case 0: {
      mst_buffer *buffer = any_buffer(in);
      uint64_t offset = number(in);
      uint64_t length = number(in);
      checked_encode_fill(queue, value, buffer, offset, length, byte(in));
      break;
    }
    case 1: {
      mst_buffer *source = any_buffer(in);
      uint64_t offset = number(in);
      mst_buffer *target = any_buffer(in);
      uint64_t target_offset = number(in);
      checked_encode_copy(queue, value, source, offset, target, target_offset, number(in));
      break;
    }
    case 2: {
      uint8_t choice = byte(in);
      mst_queue *other = live.queues[choice >= 224 ? DRAWN : choice % DRAWN];
      uint8_t back = byte(in);
      checked_encode_wait(queue, value, other, model_next_value(other) - (back < 250) - back % 2u);
      break;
    }
    case 3: {
      mst_buffer *x = any_buffer(in);
      mst_buffer *gamma = any_buffer(in);
      mst_buffer *beta = any_buffer(in);
      mst_buffer *y = any_buffer(in);
      uint64_t rows = number(in);
      uint64_t columns = number(in);
      checked_encode_layer_norm(queue, value, x, gamma, beta, y, rows, columns, 1e-5f);
      break;
    }
    default: {
      mst_buffer *buffers[MOST_ARGUMENTS];
      uint8_t first = byte(in);
      for (int i = 0; i < MOST_ARGUMENTS; i++) {
        buffers[i] = first % 4 == 0 ? any_buffer(in) : live.buffers[i % BUFFERS];
      }
      uint8_t count = byte(in);
      checked_encode_executable(queue, value, live.executables[first / 4 % EXECUTABLES], buffers,
                                count < 200 ? 4 : count % (MOST_ARGUMENTS + 1), first / 8 % 3u);
      break;
    }
  }
  if (byte(in) % 2 == 0) {
    commit(in, live.queues[at]);
  }
}

/* Often without limit, where the end is certain. */
static void wait_for_something(input *in, mst_queue *queue) {
  uint64_t value = any_value(in, queue) - 1;
  uint8_t time = byte(in);
  checked_queue_wait(queue, value, time % 2 == 0 && model_must_complete(queue, value) ? -1 : (int64_t)time * 100);
}

static void run_something(input *in) {
  mst_queue *queue = live.queues[byte(in) % DRAWN];
  switch (byte(in) % 8) {
    case 0:
    case 1:
      checked_commands_begin(queue, any_value(in, queue));
      break;
    case 2:
    case 3:
      commit(in, queue);
      break;
    case 4:
      checked_commands_discard(queue, any_value(in, queue));
      break;
    case 5:
      wait_for_something(in, queue);
      break;
    case 6:
      checked_queue_reset(queue);
      break;
    default:
      model_look();
      break;
  }
}

/* A value that waits are for, or one a little further, or an old one. */
static void signal_something(input *in) {
  uint8_t drawn = byte(in);
  mst_queue *queue = live.queues[drawn >= 64 ? DRAWN : drawn % DRAWN];
  uint8_t choice = byte(in);
  uint64_t next = model_next_value(queue);
  checked_queue_signal(queue, choice % 8 == 7 ? next / 2 : next - (choice / 8 % 4u < next ? choice / 8 % 4u : 0),
                       choice % 4 == 1 ? "ordered" : NULL);
}

static void test_something(input *in) {
  mst_device *device = any_device(in);
  switch (byte(in) % 8) {
    case 0:
      checked_hold(any_queue(in));
      break;
    case 1:
      checked_release(any_queue(in));
      break;
    case 2: {
      mst_queue *queue = any_queue(in);
      checked_step(queue, byte(in) % 4u);
      break;
    }
    case 3:
      OK(mst_test_seed(device, byte(in)));
      break;
    case 4:
      OK(mst_test_latency(device, byte(in) % 2 * 10000u));
      break;
    case 5: {
      uint32_t n = byte(in) % 4u;
      checked_fail_execution(n, byte(in) % 4 != 0 ? MST_ERROR_EXECUTION : MST_ERROR_DEVICE_LOST);
      break;
    }
    case 6:
      checked_device_wake(device);
      break;
    default: {
      uint8_t capacity = byte(in);
      checked_next_completions(device, capacity % 5, capacity / 5 % 2 == 1);
      break;
    }
  }
}

/* Something of everything, so that few calls are needed to get far: buffers and queues, of which the last are the second
 * device's, and a linear layer with ReLU over buffers 0, 1, 2 into 3. */
static void begin_everything(void) {
  for (int i = 0; i < DEVICES; i++) {
    live.devices[i] = open_device(1);
    OK(mst_test_memory_limit(live.devices[i], 1 << 20));
  }
  model_start(live.devices);
  for (int i = 0; i < DRAWN; i++) {
    uint32_t most = i == 0 ? MST_MAX_IN_FLIGHT : (uint32_t)i + 1;
    checked_queue_create(live.devices[i == DRAWN - 1], live.next_queue_id++, most, &live.queues[i]);
  }
  checked_queue_create_host(live.devices[0], live.next_queue_id++, &live.queues[DRAWN]);
  for (int i = 0; i < BUFFERS; i++) {
    checked_buffer_create(live.devices[i == BUFFERS - 1], 256, i == 4 ? MST_STORAGE_PRIVATE : MST_STORAGE_SHARED,
                          &live.buffers[i]);
  }
  const int64_t dims[2] = {8, 8};
  mst_graph *graph = NULL;
  int32_t x = -1;
  int32_t w = -1;
  int32_t b = -1;
  int32_t product = -1;
  int32_t sum = -1;
  int32_t y = -1;
  checked_graph_create(live.devices[0], &graph);
  OK(mst_graph_input(graph, MST_F32, dims, 2, &x));
  checked_node(graph, MST_OK, x, NODE_INPUT, 256);
  OK(mst_graph_input(graph, MST_F32, dims, 2, &w));
  checked_node(graph, MST_OK, w, NODE_INPUT, 256);
  OK(mst_graph_input(graph, MST_F32, dims, 1, &b));
  checked_node(graph, MST_OK, b, NODE_INPUT, 32);
  OK(mst_graph_matmul(graph, x, w, 0, &product));
  checked_node(graph, MST_OK, product, NODE_COMPUTED, 256);
  OK(mst_graph_add(graph, product, b, &sum));
  checked_node(graph, MST_OK, sum, NODE_COMPUTED, 256);
  OK(mst_graph_relu(graph, sum, &y));
  checked_node(graph, MST_OK, y, NODE_COMPUTED, 256);
  checked_graph_output(graph, y);
  checked_graph_compile(graph, &live.executables[0]);
  live.graphs[0] = graph;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {data, size};
  memset(&live, 0, sizeof(live));
  begin_everything();
  bool devices_first = byte(&in) % 2 == 1;
  while (in.size > 0) {
    uint8_t choice = byte(&in);
    if (choice >= 240) {
      signal_something(&in);
      continue;
    }
    switch (choice % 8) {
      case 0:
        create_something(&in);
        break;
      case 1:
        destroy_something(&in);
        break;
      case 2:
        build_something(&in);
        break;
      case 3:
      case 4:
      case 5:
        encode_something(&in);
        break;
      case 6:
        run_something(&in);
        break;
      default:
        test_something(&in);
        break;
    }
  }
  model_finish(devices_first);
  return 0;
}
