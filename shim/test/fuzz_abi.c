/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A libFuzzer target: any sequence of calls, valid or not, with handles that live. What is checked: no sanitizer
 * complains, every status is one of mst.h, an error writes no out-parameter, and nothing lives at the end.
 *
 *     cmake -S shim -B build -DMST_SANITIZE=fuzzer-no-link,address,undefined -DCMAKE_C_COMPILER=clang
 *     cmake --build build --target fuzz_abi && build/test/fuzz_abi -max_total_time=60 */
#include <math.h>
#include <stdbool.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEVICES = 2, QUEUES = 4, BUFFERS = 6, GRAPHS = 2, EXECUTABLES = 3, MOST_ARGUMENTS = 8 };

typedef struct input {
  const uint8_t *data;
  size_t size;
} input;

static struct {
  mst_device *devices[DEVICES];
  mst_queue *queues[QUEUES];
  uint64_t next_values[QUEUES];
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

static int32_t check_status(int32_t status) {
  CHECK(status <= MST_TIMEOUT && status >= MST_ERROR_INTERNAL);
  CHECK(status != MST_ERROR_INTERNAL);
  CHECK(status >= 0 || mst_last_error()[0] != '\0');
  return status;
}

/* A queue, or now and then an object of another type, or NULL. */
static mst_queue *any_queue(input *in) {
  uint8_t choice = byte(in);
  return choice == 255 ? (mst_queue *)live.buffers[0] : live.queues[choice % QUEUES];
}

static mst_buffer *any_buffer(input *in) {
  uint8_t choice = byte(in);
  return choice == 255 ? (mst_buffer *)live.queues[0] : live.buffers[choice % BUFFERS];
}

/* The value that fits, or another. */
static uint64_t any_value(input *in, int queue) {
  uint8_t choice = byte(in);
  return choice < 200 ? live.next_values[queue] : choice < 240 ? live.next_values[queue] - (choice - 199u) : number(in);
}

/* The first device, mostly. */
static mst_device *any_device(input *in) {
  return live.devices[byte(in) % 16 == 15];
}

static void create_something(input *in) {
  mst_device *device = any_device(in);
  switch (byte(in) % 3) {
    case 0: {
      int at = byte(in) % QUEUES;
      if (live.queues[at] == NULL && check_status(mst_queue_create(device, live.next_queue_id++, NULL, byte(in) % 70u,
                                                                   &live.queues[at])) == MST_OK) {
        live.next_values[at] = 1;
      }
      break;
    }
    case 1: {
      int at = byte(in) % BUFFERS;
      void *contents = NULL;
      if (live.buffers[at] == NULL &&
          check_status(mst_buffer_create(device, number(in), byte(in) % 3, &live.buffers[at], &contents)) != MST_OK) {
        CHECK(live.buffers[at] == NULL && contents == NULL);
      } else if (contents != NULL) {
        *(uint8_t *)contents = 1;
      }
      break;
    }
    default: {
      int at = byte(in) % GRAPHS;
      if (live.graphs[at] == NULL) {
        check_status(mst_graph_create(device, &live.graphs[at]));
      }
      break;
    }
  }
}

static void destroy_something(input *in) {
  switch (byte(in) % 4) {
    case 0: {
      int at = byte(in) % QUEUES;
      for (int i = 0; i < QUEUES; i++) {
        mst_test_release(live.queues[i]); /* it may wait for these */
      }
      if (check_status(mst_queue_destroy(live.queues[at])) == MST_OK) {
        live.queues[at] = NULL;
      }
      break;
    }
    case 1: {
      int at = byte(in) % BUFFERS;
      if (check_status(mst_buffer_destroy(live.buffers[at])) == MST_OK) {
        live.buffers[at] = NULL;
      }
      break;
    }
    case 2: {
      int at = byte(in) % GRAPHS;
      OK(mst_graph_destroy(live.graphs[at]));
      live.graphs[at] = NULL;
      break;
    }
    default: {
      int at = byte(in) % EXECUTABLES;
      OK(mst_executable_destroy(live.executables[at]));
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

static int32_t add_input(input *in, mst_graph *graph, int32_t *node) {
  int64_t dims[MST_MAX_RANK];
  any_dims(in, dims);
  int32_t dtype = any_dtype(in);
  return mst_graph_input(graph, dtype, dims, any_rank(in), node);
}

static void build_something(input *in) {
  mst_graph *graph = live.graphs[byte(in) % GRAPHS];
  int32_t node = -7;
  int32_t status = MST_OK;
  switch (byte(in) % 10) {
    case 0:
      status = add_input(in, graph, &node);
      break;
    case 1:
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
      status = mst_graph_output(graph, any_node(in));
      break;
    default: {
      int at = byte(in) % EXECUTABLES;
      if (live.executables[at] == NULL) {
        status = mst_graph_compile(graph, &live.executables[at]);
        CHECK((status == MST_OK) == (live.executables[at] != NULL));
      }
      break;
    }
  }
  check_status(status);
  CHECK(status == MST_OK || node == -7);
}

static void commit(input *in, int at) {
  if (check_status(mst_commands_commit(live.queues[at], any_value(in, at), byte(in) % 5u)) == MST_OK) {
    live.next_values[at]++;
  }
}

static void encode_something(input *in) {
  int at = byte(in) % QUEUES;
  mst_queue *queue = byte(in) == 255 ? any_queue(in) : live.queues[at];
  uint64_t value = any_value(in, at);
  if (byte(in) % 8 != 0) {
    check_status(mst_commands_begin(live.queues[at], live.next_values[at])); /* often, one is open already */
  }
  switch (byte(in) % 5) {
    case 0:
      check_status(mst_encode_fill(queue, value, any_buffer(in), number(in), number(in), byte(in)));
      break;
    case 1: {
      mst_buffer *source = any_buffer(in);
      uint64_t offset = number(in);
      check_status(mst_encode_copy(queue, value, source, offset, any_buffer(in), number(in), number(in)));
      break;
    }
    case 2: {
      int other = byte(in) % QUEUES;
      uint8_t back = byte(in);
      check_status(
          mst_encode_wait(queue, value, live.queues[other], live.next_values[other] - (back < 250) - back % 2u));
      break;
    }
    case 3: {
      mst_buffer *x = any_buffer(in);
      mst_buffer *gamma = any_buffer(in);
      mst_buffer *beta = any_buffer(in);
      uint64_t rows = number(in);
      uint64_t columns = number(in);
      check_status(mst_encode_layer_norm(queue, value, x, gamma, beta, any_buffer(in), rows, columns, 1e-5f));
      break;
    }
    default: {
      mst_buffer *buffers[MOST_ARGUMENTS];
      uint8_t first = byte(in);
      for (int i = 0; i < MOST_ARGUMENTS; i++) {
        buffers[i] = first % 4 == 0 ? any_buffer(in) : live.buffers[i % BUFFERS];
      }
      uint8_t count = byte(in);
      check_status(mst_encode_executable(queue, value, live.executables[first / 4 % EXECUTABLES], buffers,
                                         count < 200 ? 4 : count % (MOST_ARGUMENTS + 1), first / 8 % 3u));
      break;
    }
  }
  if (byte(in) % 2 == 0) {
    commit(in, at);
  }
}

static void run_something(input *in) {
  int at = byte(in) % QUEUES;
  mst_queue *queue = live.queues[at];
  switch (byte(in) % 8) {
    case 0:
    case 1:
      check_status(mst_commands_begin(queue, any_value(in, at)));
      break;
    case 2:
    case 3:
      commit(in, at);
      break;
    case 4:
      check_status(mst_commands_discard(queue, any_value(in, at)));
      break;
    case 5:
      check_status(mst_queue_wait(queue, any_value(in, at) - 1, (int64_t)byte(in) * 100));
      break;
    case 6:
      check_status(mst_queue_reset(queue));
      break;
    default:
      if (queue != NULL) {
        CHECK(mst_queue_completed_value(queue) < live.next_values[at]);
        CHECK(mst_queue_failed_value(queue) < live.next_values[at]);
      }
      break;
  }
}

static void test_something(input *in) {
  mst_device *device = any_device(in);
  switch (byte(in) % 8) {
    case 0:
      check_status(mst_test_hold(any_queue(in)));
      break;
    case 1:
      check_status(mst_test_release(any_queue(in)));
      break;
    case 2:
      check_status(mst_test_step(any_queue(in), byte(in) % 4u));
      break;
    case 3:
      check_status(mst_test_seed(device, byte(in)));
      break;
    case 4:
      check_status(mst_test_latency(device, byte(in) % 2 * 10000u));
      break;
    case 5:
      check_status(mst_test_fail("execute", byte(in) % 4u, byte(in) % 2 ? MST_ERROR_EXECUTION : MST_ERROR_DEVICE_LOST));
      break;
    case 6:
      OK(mst_device_wake(device));
      break;
    default: {
      mst_completion completions[4];
      int32_t count = -7;
      int32_t status = check_status(mst_device_next_completions(device, completions, byte(in) % 5, 0, &count));
      CHECK(status < 0 ? count == -7 : count >= 0 && count <= 4);
      break;
    }
  }
}

static void end_everything(bool devices_first) {
  OK(mst_test_fail("execute", 0, MST_OK));
  for (int i = 0; i < QUEUES; i++) {
    mst_test_release(live.queues[i]);
  }
  for (int i = 0; devices_first && i < DEVICES; i++) {
    OK(mst_device_close(live.devices[i]));
  }
  for (int i = 0; i < QUEUES; i++) {
    OK(mst_queue_destroy(live.queues[i]));
  }
  for (int i = 0; i < BUFFERS; i++) {
    OK(mst_buffer_destroy(live.buffers[i]));
  }
  for (int i = 0; i < GRAPHS; i++) {
    OK(mst_graph_destroy(live.graphs[i]));
  }
  for (int i = 0; i < EXECUTABLES; i++) {
    OK(mst_executable_destroy(live.executables[i]));
  }
  for (int i = 0; !devices_first && i < DEVICES; i++) {
    OK(mst_device_close(live.devices[i]));
  }
  check_nothing_lives();
}

/* Something of everything, so that few calls are needed to get far: buffers and queues, of which the last are the second
 * device's, and a linear layer with ReLU over buffers 0, 1, 2 into 3. */
static void begin_everything(void) {
  for (int i = 0; i < DEVICES; i++) {
    live.devices[i] = open_device(1);
    OK(mst_test_memory_limit(live.devices[i], 1 << 20));
  }
  for (int i = 0; i < QUEUES; i++) {
    live.queues[i] = create_queue(live.devices[i == QUEUES - 1], live.next_queue_id++);
    live.next_values[i] = 1;
  }
  for (int i = 0; i < BUFFERS; i++) {
    float *values = NULL;
    live.buffers[i] = create_floats(live.devices[i == BUFFERS - 1], 64, &values);
    memset(values, 0, 64 * sizeof(float));
  }
  const int64_t dims[2] = {8, 8};
  int32_t nodes[6];
  OK(mst_graph_create(live.devices[0], &live.graphs[0]));
  OK(mst_graph_input(live.graphs[0], MST_F32, dims, 2, &nodes[0]));
  OK(mst_graph_input(live.graphs[0], MST_F32, dims, 2, &nodes[1]));
  OK(mst_graph_input(live.graphs[0], MST_F32, dims, 1, &nodes[2]));
  OK(mst_graph_matmul(live.graphs[0], nodes[0], nodes[1], 0, &nodes[3]));
  OK(mst_graph_add(live.graphs[0], nodes[3], nodes[2], &nodes[4]));
  OK(mst_graph_relu(live.graphs[0], nodes[4], &nodes[5]));
  OK(mst_graph_output(live.graphs[0], nodes[5]));
  OK(mst_graph_compile(live.graphs[0], &live.executables[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {data, size};
  memset(&live, 0, sizeof(live));
  begin_everything();
  bool devices_first = byte(&in) % 2 == 1;
  while (in.size > 0) {
    switch (byte(&in) % 8) {
      case 0:
        create_something(&in);
        break;
      case 1:
        destroy_something(&in);
        break;
      case 2:
      case 3:
        build_something(&in);
        break;
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
  end_everything(devices_first);
  return 0;
}
