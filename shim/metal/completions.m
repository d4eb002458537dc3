/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The completion queue.
 *
 * Invariants
 *   1. A record is in the ring before the value that it reports can be seen, and the record of a failure before those
 *      of the command buffers that depend on it: see "Publishing" in queue.m, which pushes the records.
 *   2. Records of one queue are in the order of their values: publishing goes in that order.
 *   3. No record is lost and no push fails: count + reserved <= capacity. Commit reserves, before it makes the value
 *      committed, and fails if there is no memory; so does a signal. A host queue reserves the record of its end when it is
 *      created.
 *   4. A drainer sleeps only when the ring is empty, and every push wakes one.
 *
 * The ring grows as needed and is never trimmed: a process that commits but never drains keeps a record for each
 * command buffer, without limit. Dropping records instead would break the promise of one completion for each. */
#include "completions.h"

#include <stdlib.h>

#include "device.h"
#include "error.h"
#include "platform.h"

enum { FIRST_CAPACITY = 256 };

bool mst_completions_reserve(mst_completions *completions) {
  if (completions->count + completions->reserved == completions->capacity) {
    size_t capacity = completions->capacity == 0 ? FIRST_CAPACITY : completions->capacity * 2;
    if (capacity > SIZE_MAX / sizeof(mst_completion)) {
      return false;
    }
    mst_completion *records = malloc(capacity * sizeof(mst_completion));
    if (records == NULL) {
      return false;
    }
    for (size_t i = 0; i < completions->count; i++) {
      records[i] = completions->records[(completions->first + i) & (completions->capacity - 1)];
    }
    free(completions->records);
    completions->records = records;
    completions->capacity = capacity;
    completions->first = 0;
  }
  completions->reserved++;
  return true;
}

void mst_completions_unreserve(mst_completions *completions) {
  completions->reserved--;
}

void mst_completions_push(mst_completions *completions, const mst_completion *record) {
  completions->records[(completions->first + completions->count) & (completions->capacity - 1)] = *record;
  completions->count++;
  completions->reserved--;
  pthread_cond_signal(&completions->arrived);
}

/* Takes what is there, up to `capacity`. Lock held. */
static int32_t take(mst_completions *completions, mst_completion *out, int32_t capacity) {
  int32_t taken = 0;
  while (taken < capacity && completions->count > 0) {
    out[taken++] = completions->records[completions->first];
    completions->first = (completions->first + 1) & (completions->capacity - 1);
    completions->count--;
  }
  return taken;
}

int32_t mst_device_next_completions(mst_device *device, mst_completion *out_completions, int32_t capacity,
                                    int64_t timeout_ns, int32_t *out_count) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  if (out_completions == NULL || out_count == NULL || capacity < 1) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no room for completions");
  }
  mst_completions *completions = &device->completions;
  uint64_t deadline = timeout_ns == 0 ? 0 : mst_deadline(timeout_ns);
  int32_t status = MST_OK;

  mst_lock(device);
  completions->draining++;
  while (status == MST_OK && completions->count == 0 && completions->wakes == 0 && !device->closed) {
    if (!mst_wait_until(&completions->arrived, &device->lock, deadline)) {
      status = MST_TIMEOUT;
    }
  }
  int32_t count = take(completions, out_completions, capacity);
  if (completions->wakes > 0) {
    completions->wakes--;
  }
  if (completions->count > 0 || completions->wakes > 0) {
    pthread_cond_signal(&completions->arrived); /* the pushes that brought these may all have woken this thread */
  }
  completions->draining--;
  mst_device_consider_idle(device);
  mst_unlock(device);

  *out_count = count;
  return status;
}

int32_t mst_device_wake(mst_device *device) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  mst_lock(device);
  mst_completions *completions = &device->completions;
  /* One for each present call, or one for the next: further wakes tell nobody anything new. */
  uint32_t most = completions->draining > 0 ? completions->draining : 1;
  if (completions->wakes < most) {
    completions->wakes++;
    pthread_cond_signal(&completions->arrived);
  }
  mst_unlock(device);
  return MST_OK;
}
