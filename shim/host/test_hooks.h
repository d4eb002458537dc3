/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_TEST_HOOKS_H
#define MST_HOST_TEST_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mst_test.h"

/* Every function that mst_test_fail can fail: those of mst.h with a status, and the execution of a command buffer. */
#define MST_FAILABLE(X)          \
  X(mst_device_open)             \
  X(mst_device_info)             \
  X(mst_device_memory)           \
  X(mst_device_counters)         \
  X(mst_device_close)            \
  X(mst_device_next_completions) \
  X(mst_device_wake)             \
  X(mst_queue_create)            \
  X(mst_queue_create_host)       \
  X(mst_queue_signal)            \
  X(mst_queue_wait)              \
  X(mst_queue_reset)             \
  X(mst_queue_destroy)           \
  X(mst_commands_begin)          \
  X(mst_commands_commit)         \
  X(mst_commands_discard)        \
  X(mst_encode_wait)             \
  X(mst_encode_fill)             \
  X(mst_encode_copy)             \
  X(mst_encode_executable)       \
  X(mst_encode_layer_norm)       \
  X(mst_buffer_create)           \
  X(mst_buffer_destroy)          \
  X(mst_graph_create)            \
  X(mst_graph_input)             \
  X(mst_graph_constant)          \
  X(mst_graph_cast)              \
  X(mst_graph_matmul)            \
  X(mst_graph_add)               \
  X(mst_graph_subtract)          \
  X(mst_graph_multiply)          \
  X(mst_graph_divide)            \
  X(mst_graph_relu)              \
  X(mst_graph_sigmoid)           \
  X(mst_graph_tanh)              \
  X(mst_graph_gelu)              \
  X(mst_graph_softmax)           \
  X(mst_graph_layer_norm)        \
  X(mst_graph_mean)              \
  X(mst_graph_reshape)           \
  X(mst_graph_transpose)         \
  X(mst_graph_concat)            \
  X(mst_graph_slice)             \
  X(mst_graph_output)            \
  X(mst_graph_destroy)           \
  X(mst_graph_compile)           \
  X(mst_executable_path)         \
  X(mst_executable_destroy)      \
  X(execute)

enum mst_failable {
#define X(name) MST_FAILABLE_##name,
  MST_FAILABLE(X)
#undef X
      MST_FAILABLE_COUNT
};

/* Orders of mst_test_fail that are still to be carried out. 0 outside of tests: all that a call pays is this load. */
extern atomic_int mst_failures_ordered;

/* Counts a call of `function`: the status with which it must fail, else MST_OK. */
int32_t mst_failure_due(enum mst_failable function);

static inline int32_t mst_injected(enum mst_failable function) {
  return atomic_load_explicit(&mst_failures_ordered, memory_order_relaxed) == 0 ? MST_OK : mst_failure_due(function);
}

/* First statement of every ABI function that returns a status. */
#define MST_ENTER(function)                                          \
  do {                                                               \
    int32_t injected_status = mst_injected(MST_FAILABLE_##function); \
    if (injected_status != MST_OK) {                                 \
      return MST_FAIL(injected_status, "failure ordered by a test"); \
    }                                                                \
  } while (0)

/* Objects that have not ended, for mst_test_live. */
struct mst_live {
  atomic_int_least64_t devices;
  atomic_int_least64_t queues;
  atomic_int_least64_t buffers;
  atomic_int_least64_t graphs;
  atomic_int_least64_t executables;
};
extern struct mst_live mst_live;

#define MST_COUNT_LIVE(objects, change) atomic_fetch_add(&mst_live.objects, change)

#endif
