/*
 * Simulated Metal: the test hooks of mst_test.h, for the Metal shim on the simulation. The shim itself has none.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mst_test.h"

#include <stdio.h>
#include <string.h>

#include "../../../shim/common/error.h"
#include "../../../shim/common/object.h"
#include "device.h"
#include "metal.h"
#include "mst_sim.h"
#include "queue.h"

static int32_t hold(mst_queue *queue, bool held, uint32_t steps) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no queue");
  }
  if (!mst_queue_is_host(queue)) { /* which runs nothing that could be held */
    sim_queue_hold(queue->metal, held, steps);
  }
  return MST_OK;
}

int32_t mst_test_hold(mst_queue *queue) {
  return hold(queue, true, 0);
}

int32_t mst_test_release(mst_queue *queue) {
  return hold(queue, false, 0);
}

int32_t mst_test_step(mst_queue *queue, uint32_t count) {
  return hold(queue, true, count);
}

/* Every queue of the simulation has a thread of its own: its order is the operating system's. */
int32_t mst_test_seed(mst_device *device, uint64_t seed) {
  (void)device;
  (void)seed;
  return MST_OK;
}

int32_t mst_test_latency(mst_device *device, uint64_t latency_ns) {
  (void)device;
  sim_switches.latency_us = (int64_t)(latency_ns / 1000);
  return MST_OK;
}

/* Only command buffers can be made to fail. */
int32_t mst_test_fail(const char *function, uint32_t n, int32_t status) {
  if (function == NULL)
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no function");
  if (strcmp(function, "execute") != 0)
    return MST_FAIL(MST_ERROR_UNSUPPORTED, "only command buffers fail on order here");
  if (n == 0 && status != MST_OK)
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no call");
  uint32_t code = status == MST_ERROR_OUT_OF_MEMORY ? MTLCommandBufferErrorOutOfMemory
                  : status == MST_ERROR_DEVICE_LOST ? MTLCommandBufferErrorDeviceRemoved
                                                    : MTLCommandBufferErrorInternal;
  return mst_sim_fail_command_buffer(NULL, status == MST_OK ? 0 : n, code);
}

int32_t mst_test_ordered(void) {
  return mst_sim_failure_ordered() ? 1 : 0;
}

/* Of this device alone; MST_SIM_MEMORY_LIMIT is the one that all share. */
int32_t mst_test_memory_limit(mst_device *device, uint64_t bytes) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device");
  }
  device->limit_bytes = bytes > 0 ? bytes : [device->metal recommendedMaxWorkingSetSize];
  return MST_OK;
}

/* Counts the Objective-C objects that stand for each of them. Whatever else lives belongs to a device. */
int32_t mst_test_live(mst_test_live_objects *out_live) {
  mst_sim_quiesce();
  out_live->queues = mst_sim_live_objects("SimQueue");
  out_live->buffers = mst_sim_live_objects("SimBuffer");
  out_live->graphs = mst_sim_live_objects("MPSGraph");
  out_live->executables = mst_sim_live_objects("MPSGraphExecutable");
  out_live->devices =
      mst_sim_live_objects(NULL) - out_live->queues - out_live->buffers - out_live->graphs - out_live->executables;
  return MST_OK;
}
