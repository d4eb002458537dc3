/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_TEST_CHECK_H
#define MST_TEST_CHECK_H

/* The least that a C test needs. A failed check ends the process, naming the place. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mst.h"
#include "mst_test.h"

#define CHECK(condition)                                                                                \
  do {                                                                                                  \
    if (!(condition)) {                                                                                 \
      fprintf(stderr, "%s:%d: %s: not %s (last error: %s)\n", __FILE__, __LINE__, __func__, #condition, \
              mst_last_error());                                                                        \
      exit(1);                                                                                          \
    }                                                                                                   \
  } while (0)

#define CHECK_EQUAL(expected, actual)                                                                              \
  do {                                                                                                             \
    long long expected_value = (long long)(expected);                                                              \
    long long actual_value = (long long)(actual);                                                                  \
    if (expected_value != actual_value) {                                                                          \
      fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld (last error: %s)\n", __FILE__, __LINE__, __func__, #actual, \
              actual_value, expected_value, mst_last_error());                                                     \
      exit(1);                                                                                                     \
    }                                                                                                              \
  } while (0)

#define OK(call) CHECK_EQUAL(MST_OK, call)

#define RUN(test)                   \
  do {                              \
    fprintf(stderr, "%s\n", #test); \
    test();                         \
    check_nothing_lives();          \
  } while (0)

static inline void check_nothing_lives(void) {
  mst_test_live_objects live;
  int32_t status = mst_test_live(&live);
  if (status == MST_ERROR_UNSUPPORTED) {
    return; /* a Mac: run the test under leaks(1) */
  }
  OK(status);
  CHECK_EQUAL(0, live.devices);
  CHECK_EQUAL(0, live.queues);
  CHECK_EQUAL(0, live.buffers);
  CHECK_EQUAL(0, live.graphs);
  CHECK_EQUAL(0, live.executables);
}

static inline mst_device *open_device(uint32_t workers) {
  mst_device_options options = {workers, 0, "builtin"};
  mst_device *device = NULL;
  OK(mst_device_open(0, &options, &device));
  return device;
}

static inline mst_queue *create_queue(mst_device *device, uint64_t id) {
  mst_queue *queue = NULL;
  OK(mst_queue_create(device, id, "test", MST_MAX_IN_FLIGHT, &queue));
  return queue;
}

static inline mst_buffer *create_floats(mst_device *device, int64_t count, float **out_contents) {
  mst_buffer *buffer = NULL;
  void *contents = NULL;
  OK(mst_buffer_create(device, (uint64_t)count * sizeof(float), MST_STORAGE_SHARED, &buffer, &contents));
  *out_contents = contents;
  return buffer;
}

/* Commits a command buffer that fills one byte of `buffer`, or is empty without one. */
static inline void commit_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint8_t byte) {
  OK(mst_commands_begin(queue, value));
  if (buffer != NULL) {
    OK(mst_encode_fill(queue, value, buffer, 0, 1, byte));
  }
  OK(mst_commands_commit(queue, value, MST_COMMIT_DEFAULT));
}

/* The next completion, waiting for it. */
static inline mst_completion next_completion(mst_device *device) {
  mst_completion completion;
  int32_t count = 0;
  OK(mst_device_next_completions(device, &completion, 1, -1, &count));
  CHECK_EQUAL(1, count);
  return completion;
}

#endif
