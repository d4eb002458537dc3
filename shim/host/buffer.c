/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Device memory.
 *
 * buffer->uses counts the uses by open and uncompleted command buffers. Destroying is the one transition 0 -> ENDING, so
 * it cannot slip between a check and a use: an encode that comes later finds ENDING and fails, one that came earlier
 * makes the destroy fail. A use is counted off when the device is done with the buffer and before the value of the
 * command buffer is completed. So who has seen the value may destroy the buffer, and a destroy may succeed a moment
 * before the value is seen. */
#include "buffer.h"

#include <stdlib.h>

#include "../common/error.h"
#include "device.h"
#include "test_hooks.h"

/* Whole cache lines, and what vector loads like best. */
enum { ALIGNMENT = 64 };

static const int32_t ENDING = INT32_MIN;

bool mst_buffer_use(mst_buffer *buffer) {
  int_least32_t uses = atomic_load_explicit(&buffer->uses, memory_order_relaxed);
  do {
    if (uses < 0 || uses == INT32_MAX) {
      return false;
    }
  } while (!atomic_compare_exchange_weak_explicit(&buffer->uses, &uses, uses + 1, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

void mst_buffer_unuse(mst_buffer *buffer) {
  atomic_fetch_sub_explicit(&buffer->uses, 1, memory_order_release);
}

/* Counts `bytes` as allocated, unless that exceeds the limit. */
static bool account(mst_device *device, uint64_t bytes) {
  uint64_t limit = atomic_load_explicit(&device->limit_bytes, memory_order_relaxed);
  uint64_t allocated = atomic_load_explicit(&device->allocated_bytes, memory_order_relaxed);
  do {
    if (allocated > limit || bytes > limit - allocated) {
      return false;
    }
  } while (!atomic_compare_exchange_weak_explicit(&device->allocated_bytes, &allocated, allocated + bytes,
                                                  memory_order_relaxed, memory_order_relaxed));
  return true;
}

int32_t mst_buffer_create(mst_device *device, uint64_t bytes, int32_t storage, mst_buffer **out_buffer,
                          void **out_contents) {
  MST_ENTER(mst_buffer_create);
  if (!mst_is(device, MST_TAG_DEVICE) || out_buffer == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  if (storage != MST_STORAGE_SHARED && storage != MST_STORAGE_PRIVATE) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown storage %d", storage);
  }
  if (bytes == 0 || bytes > device->max_buffer_bytes) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu bytes is not 1 to %llu", (unsigned long long)bytes,
                    (unsigned long long)device->max_buffer_bytes);
  }
  if (!account(device, bytes)) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "%llu bytes beyond %llu allocated exceed the limit of %llu",
                    (unsigned long long)bytes, (unsigned long long)atomic_load(&device->allocated_bytes),
                    (unsigned long long)atomic_load(&device->limit_bytes));
  }
  mst_buffer *buffer = malloc(sizeof(mst_buffer));
  void *contents = NULL;
  if (buffer == NULL || posix_memalign(&contents, ALIGNMENT, (size_t)bytes) != 0) {
    free(buffer);
    atomic_fetch_sub(&device->allocated_bytes, bytes);
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "the system has no %llu bytes left", (unsigned long long)bytes);
  }
  mst_device_retain(device);
  buffer->tag = MST_TAG_BUFFER;
  atomic_init(&buffer->uses, 0);
  buffer->device = device;
  buffer->bytes = bytes;
  buffer->contents = contents;
  atomic_fetch_add(&device->buffer_count, 1);
  atomic_fetch_add(&mst_live.buffers, 1);
  *out_buffer = buffer;
  if (out_contents != NULL) {
    *out_contents = storage == MST_STORAGE_SHARED ? contents : NULL;
  }
  return MST_OK;
}

int32_t mst_buffer_destroy(mst_buffer *buffer) {
  MST_ENTER(mst_buffer_destroy);
  if (buffer == NULL) {
    return MST_OK;
  }
  if (!mst_is(buffer, MST_TAG_BUFFER)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a buffer");
  }
  int_least32_t uses = 0;
  if (!atomic_compare_exchange_strong_explicit(&buffer->uses, &uses, ENDING, memory_order_acquire,
                                               memory_order_relaxed)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE,
                    uses > 0 ? "%d uses by command buffers are not completed" : "it is being destroyed (%d)",
                    (int)uses);
  }
  mst_device *device = buffer->device;
  atomic_fetch_sub(&device->allocated_bytes, buffer->bytes);
  atomic_fetch_sub(&device->buffer_count, 1);
  buffer->tag = MST_TAG_ENDED;
  free(buffer->contents);
  free(buffer);
  atomic_fetch_sub(&mst_live.buffers, 1);
  mst_device_release(device);
  return MST_OK;
}
