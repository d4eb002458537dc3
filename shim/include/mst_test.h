/*
 * Metal Streams: test hooks of the host shim. Not part of the ABI; the Metal shim does not have them.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The hooks let a test decide order and failure, so that no test sleeps. All are thread-safe and never block.
 */
#ifndef MST_TEST_H
#define MST_TEST_H

#include "mst.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Keeps the queue from starting further command buffers; the one that runs is finished. Holds do not nest. */
MST_API int32_t mst_test_hold(mst_queue *queue);

/* Ends mst_test_hold. */
MST_API int32_t mst_test_release(mst_queue *queue);

/* Lets exactly `count` more command buffers of a held queue run. */
MST_API int32_t mst_test_step(mst_queue *queue, uint32_t count);

/* From now on, which runnable queue goes next is drawn from a generator with this seed; 0 = oldest first (default). */
MST_API int32_t mst_test_seed(mst_device *device, uint64_t seed);

/* Every command buffer of the device completes this much later. No worker is tied up meanwhile. 0 = off (default). */
MST_API int32_t mst_test_latency(mst_device *device, uint64_t latency_ns);

/* The n-th call (1 = the next) of the ABI function `function` ("mst_buffer_create", ...) on any device fails with
 * `status`, once. "execute" instead of a function's name: the n-th command buffer to be executed fails so on the device.
 * status 0 takes the order for this function back. UNKNOWN names are MST_ERROR_INVALID_ARGUMENT. */
MST_API int32_t mst_test_fail(const char *function, uint32_t n, int32_t status);

/* How many orders of mst_test_fail are still to be carried out. */
MST_API int32_t mst_test_ordered(void);

/* Sets the device's memory limit; 0 = the default. Buffers that exist already stay. */
MST_API int32_t mst_test_memory_limit(mst_device *device, uint64_t bytes);

typedef struct mst_test_live_objects {
  int64_t devices;
  int64_t queues;
  int64_t buffers;
  int64_t graphs;
  int64_t executables;
} mst_test_live_objects;

/* Counts the objects of the process that have not ended: all 0 means that nothing leaked. */
MST_API int32_t mst_test_live(mst_test_live_objects *out_live);

#ifdef __cplusplus
}
#endif

#endif /* MST_TEST_H */
