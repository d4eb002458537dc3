/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Buffers, their limits, and every call failing when a test says so. */
#include "check.h"

static void buffers_are_counted_and_limited(void) {
  mst_device *device = open_device(1);
  mst_device_facts facts;
  OK(mst_device_info(device, &facts));
  CHECK(facts.recommended_bytes > 0 && facts.max_buffer_bytes > 0 && facts.unified_memory == 1);
  CHECK_EQUAL(1, facts.worker_count);
  CHECK(strstr(facts.math, "built-in") != NULL);
  mst_buffer *buffer = NULL;
  void *contents = (void *)1;
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_buffer_create(device, 0, 0, &buffer, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_buffer_create(device, facts.max_buffer_bytes + 1, 0, &buffer, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_buffer_create(device, UINT64_MAX, 0, &buffer, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_buffer_create(device, 1, 2, &buffer, NULL));
  OK(mst_test_memory_limit(device, 1000));
  OK(mst_buffer_create(device, 600, MST_STORAGE_PRIVATE, &buffer, &contents));
  CHECK(contents == NULL);
  mst_buffer *second = NULL;
  CHECK_EQUAL(MST_ERROR_OUT_OF_MEMORY, mst_buffer_create(device, 401, 0, &second, &contents));
  OK(mst_buffer_create(device, 400, MST_STORAGE_SHARED, &second, &contents));
  CHECK_EQUAL(0, (uintptr_t)contents % 64);
  OK(mst_test_memory_limit(device, 100));
  mst_device_memory_facts memory;
  OK(mst_device_memory(device, &memory));
  CHECK_EQUAL(1000, memory.allocated_bytes);
  CHECK_EQUAL(2, memory.buffer_count);
  CHECK_EQUAL(100, memory.limit_bytes);
  mst_buffer *third = NULL;
  CHECK_EQUAL(MST_ERROR_OUT_OF_MEMORY, mst_buffer_create(device, 1, 0, &third, NULL));
  OK(mst_test_memory_limit(device, 0));
  OK(mst_buffer_destroy(buffer));
  OK(mst_buffer_destroy(second));
  OK(mst_device_memory(device, &memory));
  CHECK_EQUAL(0, memory.allocated_bytes);
  OK(mst_device_close(device));
}

static void buffers_in_flight_are_not_destroyed(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  mst_buffer *buffer = NULL;
  OK(mst_buffer_create(device, 64, MST_STORAGE_SHARED, &buffer, NULL));
  OK(mst_commands_begin(queue, 1));
  OK(mst_encode_fill(queue, 1, buffer, 0, 64, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_buffer_destroy(buffer));
  OK(mst_commands_discard(queue, 1));
  OK(mst_test_hold(queue));
  OK(mst_commands_begin(queue, 1));
  OK(mst_encode_copy(queue, 1, buffer, 0, buffer, 32, 32));
  OK(mst_commands_commit(queue, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_buffer_destroy(buffer));
  OK(mst_test_release(queue));
  OK(mst_queue_wait(queue, 1, -1));
  OK(mst_buffer_destroy(buffer));
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

static void ranges_are_checked(void) {
  mst_device *device = open_device(1);
  mst_device *elsewhere = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  mst_queue *foreign_queue = create_queue(elsewhere, 1);
  mst_buffer *buffer = NULL;
  mst_buffer *foreign = NULL;
  uint8_t *bytes = NULL;
  OK(mst_buffer_create(device, 64, MST_STORAGE_SHARED, &buffer, (void **)&bytes));
  OK(mst_buffer_create(elsewhere, 64, MST_STORAGE_SHARED, &foreign, NULL));
  OK(mst_commands_begin(queue, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_fill(queue, 1, buffer, 1, 64, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_fill(queue, 1, buffer, UINT64_MAX, 2, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_fill(queue, 1, buffer, 2, UINT64_MAX, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_fill(queue, 1, foreign, 0, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_fill(queue, 1, NULL, 0, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_copy(queue, 1, buffer, 0, buffer, 31, 32));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_copy(queue, 1, buffer, 31, buffer, 0, 32));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_copy(queue, 1, buffer, 0, foreign, 0, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_copy(queue, 1, buffer, 0, buffer, 60, 5));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_wait(queue, 1, foreign_queue, 0));
  OK(mst_encode_fill(queue, 1, buffer, 0, 64, 3));
  OK(mst_encode_fill(queue, 1, buffer, 64, 0, 9));
  OK(mst_encode_fill(queue, 1, buffer, 8, 8, 7));
  OK(mst_encode_copy(queue, 1, buffer, 0, buffer, 32, 32));
  OK(mst_encode_copy(queue, 1, buffer, 5, buffer, 5, 0));
  OK(mst_commands_commit(queue, 1, MST_COMMIT_WAITING));
  OK(mst_queue_wait(queue, 1, -1));
  for (int i = 0; i < 64; i++) {
    CHECK_EQUAL(i % 32 >= 8 && i % 32 < 16 ? 7 : 3, bytes[i]);
  }
  OK(mst_buffer_destroy(buffer));
  OK(mst_buffer_destroy(foreign));
  OK(mst_queue_destroy(queue));
  OK(mst_queue_destroy(foreign_queue));
  OK(mst_device_close(device));
  OK(mst_device_close(elsewhere));
}

static void every_call_fails_on_order(void) {
  enum { STATUS = MST_ERROR_INTERNAL };
  mst_device *device = NULL;
  mst_queue *queue = NULL;
  mst_buffer *buffer = NULL;
  mst_graph *graph = NULL;
  mst_executable *executable = NULL;
  mst_device_facts facts;
  mst_device_memory_facts memory;
  mst_completion completion;
  int32_t count = 0;
  int32_t node = -1;
  const int64_t dims[2] = {2, 2};
  /* The first call fails as ordered and has no effect, the second does it. */
#define FAILS_ONCE(function, ...)                       \
  do {                                                  \
    OK(mst_test_fail(#function, 1, STATUS));            \
    CHECK_EQUAL(STATUS, function(__VA_ARGS__));         \
    CHECK(strstr(mst_last_error(), #function) != NULL); \
    OK(function(__VA_ARGS__));                          \
  } while (0)
  FAILS_ONCE(mst_device_open, 0, NULL, &device);
  FAILS_ONCE(mst_device_info, device, &facts);
  FAILS_ONCE(mst_device_memory, device, &memory);
  FAILS_ONCE(mst_queue_create, device, 1, NULL, 2, &queue);
  FAILS_ONCE(mst_buffer_create, device, 16, 0, &buffer, NULL);
  mst_buffer *more[2];
  OK(mst_buffer_create(device, 16, 0, &more[0], NULL));
  OK(mst_buffer_create(device, 16, 0, &more[1], NULL));
  FAILS_ONCE(mst_graph_create, device, &graph);
  FAILS_ONCE(mst_graph_input, graph, MST_F32, dims, 2, &node);
  CHECK_EQUAL(0, node);
  FAILS_ONCE(mst_graph_matmul, graph, 0, 0, 0, &node);
  FAILS_ONCE(mst_graph_add, graph, 1, 0, &node);
  FAILS_ONCE(mst_graph_relu, graph, 2, &node);
  CHECK_EQUAL(3, node);
  FAILS_ONCE(mst_graph_output, graph, 3);
  FAILS_ONCE(mst_graph_compile, graph, &executable);
  FAILS_ONCE(mst_graph_destroy, graph);
  FAILS_ONCE(mst_commands_begin, queue, 1);
  FAILS_ONCE(mst_encode_fill, queue, 1, buffer, 0, 1, 0);
  FAILS_ONCE(mst_encode_copy, queue, 1, buffer, 0, more[0], 0, 16);
  FAILS_ONCE(mst_encode_wait, queue, 1, queue, 0);
  FAILS_ONCE(mst_encode_executable, queue, 1, executable, more, 2, 0);
  FAILS_ONCE(mst_encode_layer_norm, queue, 1, more[0], more[0], more[0], more[1], 1, 4, 0.0f);
  FAILS_ONCE(mst_commands_discard, queue, 1);
  OK(mst_commands_begin(queue, 1));
  FAILS_ONCE(mst_commands_commit, queue, 1, 0);
  FAILS_ONCE(mst_queue_wait, queue, 1, -1);
  FAILS_ONCE(mst_queue_reset, queue);
  FAILS_ONCE(mst_device_next_completions, device, &completion, 1, 0, &count);
  CHECK_EQUAL(1, count);
  FAILS_ONCE(mst_device_wake, device);
  FAILS_ONCE(mst_executable_destroy, executable);
  FAILS_ONCE(mst_buffer_destroy, buffer);
  OK(mst_buffer_destroy(more[0]));
  OK(mst_buffer_destroy(more[1]));
  FAILS_ONCE(mst_queue_destroy, queue);
  FAILS_ONCE(mst_device_close, device);

  device = open_device(1);
  OK(mst_test_fail("mst_buffer_create", 3, MST_ERROR_OUT_OF_MEMORY));
  for (int i = 1; i <= 4; i++) {
    int32_t status = mst_buffer_create(device, 1, 0, &buffer, NULL);
    CHECK_EQUAL(i == 3 ? MST_ERROR_OUT_OF_MEMORY : MST_OK, status);
    if (status == MST_OK) {
      OK(mst_buffer_destroy(buffer));
    }
  }
  OK(mst_test_fail("mst_buffer_create", 1, MST_ERROR_OUT_OF_MEMORY));
  CHECK_EQUAL(1, mst_test_ordered());
  OK(mst_test_fail("mst_buffer_create", 0, MST_OK));
  CHECK_EQUAL(0, mst_test_ordered());
  OK(mst_buffer_create(device, 1, 0, &buffer, NULL));
  OK(mst_buffer_destroy(buffer));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_test_fail("mst_nonsense", 1, STATUS));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_test_fail("execute", 1, MST_ERROR_BUSY));
  OK(mst_device_close(device));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_device_open(1, NULL, &device));
  mst_device_options missing = {1, 0, "/nonexistent/libblas.so"};
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_device_open(0, &missing, &device));
  CHECK(strstr(mst_last_error(), "/nonexistent/libblas.so") != NULL);
  OK(mst_device_close(NULL));
  OK(mst_queue_destroy(NULL));
  OK(mst_buffer_destroy(NULL));
  OK(mst_graph_destroy(NULL));
  OK(mst_executable_destroy(NULL));
}

int main(void) {
  RUN(buffers_are_counted_and_limited);
  RUN(buffers_in_flight_are_not_destroyed);
  RUN(ranges_are_checked);
  RUN(every_call_fails_on_order);
  return 0;
}
