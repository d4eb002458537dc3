/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A device: what its objects share, and how long it lives.
 *
 * The caller's handle and every object of the device count as a reference. Close drains, ends the threads and drops the
 * handle's reference; the memory goes with the last one. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>

#include "../common/error.h"
#include "platform.h"
#include "queue.h"
#include "test_hooks.h"

/* Far more than any machine has CPUs: a larger count is a mistake. */
enum { MOST_WORKERS = 1024 };

int32_t mst_abi_version(void) {
  return MST_ABI_VERSION;
}

const char *mst_build_id(void) {
  return MST_BUILD_ID;
}

const char *mst_backend_name(void) {
  return "host";
}

int32_t mst_device_count(void) {
  return 1;
}

void mst_device_retain(mst_device *device) {
  atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
}

void mst_device_release(mst_device *device) {
  if (atomic_fetch_sub_explicit(&device->references, 1, memory_order_acq_rel) != 1) {
    return;
  }
  pthread_mutex_destroy(&device->scheduler.lock);
  mst_completions_free(device);
  mst_blas_close(&device->blas);
  device->tag = MST_TAG_ENDED;
  free(device);
  atomic_fetch_sub(&mst_live.devices, 1);
}

int32_t mst_device_open(uint32_t index, const mst_device_options *options, mst_device **out_device) {
  MST_ENTER(mst_device_open);
  if (out_device == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no out-parameter");
  }
  if (index >= (uint32_t)mst_device_count()) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "there is no device %u", index);
  }
  mst_device_options defaults = {0, MST_DEVICE_DEFAULT, NULL};
  if (options == NULL) {
    options = &defaults;
  }
  const uint32_t known_flags = MST_DEVICE_FORCE_GRAPH | MST_DEVICE_PARALLEL_COMPUTE | MST_DEVICE_AGX_GUARD;
  if ((options->flags & ~known_flags) != 0 || options->worker_count > MOST_WORKERS) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "worker_count is %u, not 0 to %d, or there are unknown flags in 0x%x",
                    options->worker_count, MOST_WORKERS, options->flags);
  }
  mst_device *device = calloc(1, sizeof(mst_device));
  if (device == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a device");
  }
  int32_t status = mst_blas_open(&device->blas, options->math_library);
  if (status != MST_OK) {
    free(device);
    return status;
  }
  device->tag = MST_TAG_DEVICE;
  atomic_init(&device->references, 1);
  device->physical_bytes = mst_physical_memory();
  device->max_buffer_bytes = device->physical_bytes / 4 * 3;
  atomic_init(&device->limit_bytes, device->physical_bytes);
  status = mst_scheduler_start(device, options->worker_count != 0 ? options->worker_count : mst_cpu_count());
  if (status != MST_OK) {
    mst_blas_close(&device->blas);
    free(device);
    return status;
  }
  atomic_fetch_add(&mst_live.devices, 1);
  *out_device = device;
  return MST_OK;
}

int32_t mst_device_info(mst_device *device, mst_device_facts *out_facts) {
  MST_ENTER(mst_device_info);
  if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  mst_cpu_name(out_facts->name, sizeof(out_facts->name));
  snprintf(out_facts->family, sizeof(out_facts->family), "%s", mst_cpu_architecture());
  snprintf(out_facts->math, sizeof(out_facts->math), "%s", device->blas.name);
  out_facts->recommended_bytes = device->physical_bytes / 4 * 3;
  out_facts->max_buffer_bytes = device->max_buffer_bytes;
  out_facts->worker_count = device->scheduler.worker_count;
  out_facts->max_in_flight = MST_MAX_IN_FLIGHT;
  out_facts->unified_memory = 1;
  out_facts->reserved = 0;
  return MST_OK;
}

int32_t mst_device_memory(mst_device *device, mst_device_memory_facts *out_facts) {
  MST_ENTER(mst_device_memory);
  if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  out_facts->allocated_bytes = atomic_load(&device->allocated_bytes);
  out_facts->buffer_count = atomic_load(&device->buffer_count);
  out_facts->limit_bytes = atomic_load(&device->limit_bytes);
  return MST_OK;
}

int32_t mst_device_counters(mst_device *device, mst_device_counter_facts *out_facts) {
  MST_ENTER(mst_device_counters);
  if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  mst_device_counter_facts facts = {.matmuls_by_graph = atomic_load(&device->matmuls),
                                    .layer_norms = atomic_load(&device->layer_norms)};
  *out_facts = facts;
  return MST_OK;
}

int32_t mst_device_close(mst_device *device) {
  MST_ENTER(mst_device_close);
  if (device == NULL) {
    return MST_OK;
  }
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  mst_parker parker;
  if (!mst_parker_init(&parker)) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no thread resources left");
  }
  mst_lock(device);
  atomic_store_explicit(&device->closed, true, memory_order_relaxed);
  for (mst_queue *queue = device->scheduler.queues; queue != NULL; queue = queue->all_next) {
    queue->held = false;
    mst_scheduler_consider(queue, false);
    mst_queue_end_promises(queue);
  }
  mst_completions_close(device);
  while (device->scheduler.uncompleted > 0 || device->completions.draining > 0) {
    device->scheduler.closer = &parker;
    mst_unlock(device);
    mst_park(&parker, MST_NEVER);
    mst_lock(device);
  }
  mst_unlock(device);
  mst_parker_destroy(&parker);
  mst_scheduler_stop(device);
  mst_device_release(device);
  return MST_OK;
}
