/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The hooks of mst_test.h. */
#include "test_hooks.h"

#include <pthread.h>
#include <string.h>

#include "../common/error.h"
#include "device.h"
#include "queue.h"

struct mst_live mst_live;

/* ---------------------------------------------------------------------------------------------- ordered failures -- */

static const char *const names[MST_FAILABLE_COUNT] = {
#define X(name) #name,
    MST_FAILABLE(X)
#undef X
};

typedef struct order {
  uint32_t calls; /* until the one that fails; 0: no order */
  int32_t status;
} order;

atomic_int mst_failures_ordered;
static pthread_mutex_t orders_lock = PTHREAD_MUTEX_INITIALIZER;
static order orders[MST_FAILABLE_COUNT];

int32_t mst_failure_due(enum mst_failable function) {
  int32_t status = MST_OK;
  pthread_mutex_lock(&orders_lock);
  order *due = &orders[function];
  if (due->calls > 0 && --due->calls == 0) {
    status = due->status;
    atomic_fetch_sub(&mst_failures_ordered, 1);
  }
  pthread_mutex_unlock(&orders_lock);
  return status;
}

int32_t mst_test_fail(const char *function, uint32_t n, int32_t status) {
  if (function == NULL || status > MST_TIMEOUT || status < MST_ERROR_INTERNAL || (status != MST_OK && n == 0)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no function, no call or no status");
  }
  int found = 0;
  while (found < MST_FAILABLE_COUNT && strcmp(names[found], function) != 0) {
    found++;
  }
  if (found == MST_FAILABLE_COUNT) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no function \"%s\" that could fail", function);
  }
  if (found == MST_FAILABLE_execute && status != MST_OK && status != MST_ERROR_EXECUTION &&
      status != MST_ERROR_OUT_OF_MEMORY && status != MST_ERROR_DEVICE_LOST) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "a command buffer cannot fail with status %d by itself", status);
  }
  pthread_mutex_lock(&orders_lock);
  order ordered = {status == MST_OK ? 0 : n, status};
  atomic_fetch_add(&mst_failures_ordered, (ordered.calls > 0) - (orders[found].calls > 0));
  orders[found] = ordered;
  pthread_mutex_unlock(&orders_lock);
  return MST_OK;
}

int32_t mst_test_ordered(void) {
  return atomic_load(&mst_failures_ordered);
}

/* --------------------------------------------------------------------------------------------------- scheduling --- */

int32_t mst_test_hold(mst_queue *queue) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  mst_lock(queue->device);
  if (!queue->held) {
    queue->held = true;
    queue->steps = 0;
    mst_scheduler_withdraw(queue);
  }
  mst_unlock(queue->device);
  return MST_OK;
}

int32_t mst_test_release(mst_queue *queue) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  mst_lock(queue->device);
  queue->held = false;
  mst_scheduler_consider(queue, false);
  mst_unlock(queue->device);
  return MST_OK;
}

int32_t mst_test_step(mst_queue *queue, uint32_t count) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  mst_lock(queue->device);
  bool held = queue->held;
  if (held) {
    queue->steps = count > UINT32_MAX - queue->steps ? UINT32_MAX : queue->steps + count;
    mst_scheduler_consider(queue, false);
  }
  mst_unlock(queue->device);
  return held ? MST_OK : MST_FAIL(MST_ERROR_INVALID_STATE, "the queue is not held");
}

int32_t mst_test_seed(mst_device *device, uint64_t seed) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  mst_lock(device);
  device->scheduler.random = seed;
  mst_unlock(device);
  return MST_OK;
}

int32_t mst_test_latency(mst_device *device, uint64_t latency_ns) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  if (latency_ns > INT64_MAX) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu ns is too long", (unsigned long long)latency_ns);
  }
  atomic_store(&device->scheduler.latency_ns, latency_ns);
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------------- memory --- */

int32_t mst_test_memory_limit(mst_device *device, uint64_t bytes) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  atomic_store(&device->limit_bytes, bytes != 0 ? bytes : device->physical_bytes);
  return MST_OK;
}

int32_t mst_test_live(mst_test_live_objects *out_live) {
  if (out_live == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no out-parameter");
  }
  out_live->devices = atomic_load(&mst_live.devices);
  out_live->queues = atomic_load(&mst_live.queues);
  out_live->buffers = atomic_load(&mst_live.buffers);
  out_live->graphs = atomic_load(&mst_live.graphs);
  out_live->executables = atomic_load(&mst_live.executables);
  return MST_OK;
}
