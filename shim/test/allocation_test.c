/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A graph of many operations runs, again and again, without a single allocation: its intermediate results are in the
 * arena that was planned when it was compiled. For glibc, whose functions are replaced by ones that count. */
#include <stdatomic.h>

#include "check.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_ulong allocations;

#pragma GCC visibility push(default)

void *malloc(size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_realloc(memory, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  atomic_fetch_add(&allocations, 1);
  *out = __libc_memalign(alignment, size);
  return *out != NULL ? 0 : 12 /* ENOMEM */;
}

#pragma GCC visibility pop

enum { BATCH = 3, ROWS = 20, COLUMNS = 24 };

/* Products with either operand transposed, rows, means, copies, conversions. */
static mst_executable *compile(mst_device *device) {
  mst_graph *graph = NULL;
  OK(mst_graph_create(device, &graph));
  const int64_t dims[] = {BATCH, ROWS, COLUMNS};
  const int64_t row[] = {COLUMNS};
  float gamma[COLUMNS];
  for (int i = 0; i < COLUMNS; i++) {
    gamma[i] = 1.0f + (float)i / COLUMNS;
  }
  int32_t x;
  int32_t half;
  int32_t g;
  OK(mst_graph_input(graph, MST_F32, dims, 3, &x));
  OK(mst_graph_input(graph, MST_F16, dims, 3, &half));
  OK(mst_graph_constant(graph, MST_F32, row, 1, gamma, sizeof(gamma), &g));
  int32_t y;
  OK(mst_graph_cast(graph, half, MST_F32, &y));
  OK(mst_graph_add(graph, x, y, &x));
  OK(mst_graph_matmul(graph, x, y, MST_MATMUL_TRANSPOSE_B, &y)); /* [ROWS, ROWS] */
  OK(mst_graph_softmax(graph, y, &y));
  OK(mst_graph_matmul(graph, y, x, MST_MATMUL_TRANSPOSE_A, &y)); /* [ROWS, COLUMNS] */
  OK(mst_graph_add(graph, y, g, &y));
  OK(mst_graph_gelu(graph, y, 0, &y));
  OK(mst_graph_layer_norm(graph, y, g, g, 1e-5f, &y));
  const int32_t swapped[] = {0, 2, 1};
  OK(mst_graph_transpose(graph, y, swapped, 3, &y));
  const int32_t both[] = {y, y};
  OK(mst_graph_concat(graph, both, 2, 2, &y));
  const int32_t axis[] = {1};
  OK(mst_graph_mean(graph, y, axis, 1, 0, &y));
  OK(mst_graph_cast(graph, y, MST_F16, &y));
  OK(mst_graph_output(graph, y));
  mst_executable *executable = NULL;
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  return executable;
}

static void run(mst_queue *queue, uint64_t value, mst_executable *executable, mst_buffer *const *buffers) {
  OK(mst_commands_begin(queue, value));
  OK(mst_encode_executable(queue, value, executable, buffers, 3, 0));
  OK(mst_commands_commit(queue, value, MST_COMMIT_WAITING));
  OK(mst_queue_wait(queue, value, -1));
}

static void runs_allocate_nothing(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  mst_executable *executable = compile(device);
  mst_buffer *buffers[3];
  const uint64_t elements = BATCH * ROWS * COLUMNS;
  const uint64_t bytes[] = {elements * sizeof(float), elements * 2, BATCH * 2 * ROWS * 2};
  for (int i = 0; i < 3; i++) {
    void *contents = NULL;
    OK(mst_buffer_create(device, bytes[i], MST_STORAGE_SHARED, &buffers[i], &contents));
    memset(contents, 0, bytes[i]);
  }
  /* The worker and the waiting thread grow their scratch, and the lists of the command buffers their room. */
  enum { WARM_UP = 2000, RUNS = 2000 };
  mst_completion completions[64];
  int32_t count = 0;
  unsigned long before = 0;
  for (uint64_t value = 1; value <= WARM_UP + RUNS; value++) {
    if (value == WARM_UP + 1) {
      before = atomic_load(&allocations);
      CHECK(before > 0);
    }
    run(queue, value, executable, buffers);
    OK(mst_device_next_completions(device, completions, 64, 0, &count));
  }
  CHECK_EQUAL(before, atomic_load(&allocations));
  CHECK_EQUAL(0, mst_queue_failed_value(queue));
  OK(mst_executable_destroy(executable));
  for (int i = 0; i < 3; i++) {
    OK(mst_buffer_destroy(buffers[i]));
  }
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

/* Neither signals nor the room for completions that a host queue has reserved for its end. */
static void host_queues_leave_nothing(void) {
  enum { WARM_UP = 10, ROUNDS = 2000 };
  mst_device *device = open_device(1);
  unsigned long before = 0;
  for (int i = 0; i < WARM_UP + ROUNDS; i++) {
    if (i == WARM_UP) {
      before = atomic_load(&allocations);
    }
    mst_queue *host = NULL;
    OK(mst_queue_create_host(device, 1, "host", &host));
    for (uint64_t value = 1; value <= 3; value++) {
      OK(mst_queue_signal(host, value, NULL));
      CHECK_EQUAL(value, next_completion(device).value);
    }
    OK(mst_queue_destroy(host));
  }
  CHECK_EQUAL(before + ROUNDS, atomic_load(&allocations)); /* the queues alone */
  OK(mst_device_close(device));
}

int main(void) {
  RUN(runs_allocate_nothing);
  RUN(host_queues_leave_nothing);
  return 0;
}
