/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The completion queue.
 *
 * Invariants
 *   1. A record is in the ring before the value that it reports can be seen: mst_queue_publish pushes the record, then
 *      stores the failed value, then the completed value, all within one hold of the scheduler's lock.
 *   2. The record of a failure is in the ring before those of the command buffers that depend on it: their waits are
 *      resolved after it was pushed, in the same hold of the lock.
 *   3. Records of one queue are in the order of their values: one thread runs a queue at a time, and a host queue is
 *      signalled with rising values within a hold of the lock.
 *   4. No record is lost and no push fails: count + reserved <= capacity. Commit reserves, before it makes the value
 *      committed, and fails if there is no memory; so does a signal. A host queue reserves the record of its end when it is
 *      created.
 *   5. A drainer parks only when the ring is empty, and whoever makes that untrue takes one drainer off the list and
 *      unparks it. A push while nobody is parked costs no system call. One kind of push is unhurried: that of a success
 *      which was committed with MST_COMMIT_WAITING and executed by a waiting thread, so that who asked for it knows
 *      already. Unparking the drainer would cost that thread more than a small operation does; instead the scheduler's
 *      next tick tells it (at most 4 ms later), or the push after MOST_UNTOLD such ones, or any other.
 *
 * The ring grows as needed and is never trimmed: a process that commits but never drains keeps a record of 64 bytes for
 * each command buffer, without limit. Dropping records instead would break the promise of one completion for each. */
#include "completions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/error.h"
#include "device.h"
#include "test_hooks.h"

enum { FIRST_CAPACITY = 256, MOST_UNTOLD = 128 };

bool mst_completions_reserve(mst_device *device) {
  mst_completions *completions = &device->completions;
  if (completions->count + completions->reserved == completions->capacity) {
    size_t capacity = completions->capacity == 0 ? FIRST_CAPACITY : completions->capacity * 2;
    if (capacity > SIZE_MAX / sizeof(mst_completion_record)) {
      return false;
    }
    mst_completion_record *records = malloc(capacity * sizeof(mst_completion_record));
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

void mst_completions_unreserve(mst_device *device) {
  device->completions.reserved--;
}

/* Takes up to `count` drainers off the list. */
static void unpark_drainers(mst_device *device, uint32_t count) {
  mst_completions *completions = &device->completions;
  while (count > 0 && completions->drainers != NULL) {
    mst_drainer *drainer = completions->drainers;
    completions->drainers = drainer->next;
    drainer->queued = false;
    mst_unpark_later(device, &drainer->parker);
    count--;
  }
}

void mst_completions_push(mst_device *device, const mst_completion_record *record, bool unhurried) {
  mst_completions *completions = &device->completions;
  completions->records[(completions->first + completions->count) & (completions->capacity - 1)] = *record;
  completions->count++;
  completions->reserved--;
  if (completions->drainers == NULL) {
    return;
  }
  if (unhurried && completions->count < MOST_UNTOLD) {
    completions->unhurried = true;
    mst_scheduler_tick_soon(device);
  } else {
    mst_completions_tell(device);
  }
}

void mst_completions_tell(mst_device *device) {
  device->completions.unhurried = false;
  unpark_drainers(device, 1);
}

static void free_reason(const mst_completion_record *record) {
  if (record->owns_reason) {
    free((char *)record->reason);
  }
}

void mst_completions_free(mst_device *device) {
  mst_completions *completions = &device->completions;
  for (size_t i = 0; i < completions->count; i++) {
    free_reason(&completions->records[(completions->first + i) & (completions->capacity - 1)]);
  }
  free(completions->records);
}

void mst_completions_close(mst_device *device) {
  unpark_drainers(device, UINT32_MAX);
}

static void write_completion(mst_completion *out, const mst_completion_record *record) {
  out->queue_id = record->queue_id;
  out->value = record->value;
  out->gpu_start_ns = record->start_ns;
  out->gpu_end_ns = record->end_ns;
  out->cause_queue_id = record->cause.queue_id;
  out->cause_value = record->cause.value;
  out->status = record->status;
  out->reserved = 0;
  out->message[0] = '\0';
  if (record->status == MST_ERROR_DEPENDENCY) {
    snprintf(out->message, sizeof(out->message), "not executed: it depends on value %llu of queue %llu, which failed",
             (unsigned long long)record->cause.value, (unsigned long long)record->cause.queue_id);
  } else if (record->reason != NULL) {
    snprintf(out->message, sizeof(out->message), "%s", record->reason);
  }
}

/* Takes what is there, up to `capacity`. Lock held. */
static int32_t take(mst_completions *completions, mst_completion *out, int32_t capacity) {
  int32_t taken = 0;
  while (taken < capacity && completions->count > 0) {
    const mst_completion_record *record = &completions->records[completions->first];
    write_completion(&out[taken++], record);
    free_reason(record);
    completions->first = (completions->first + 1) & (completions->capacity - 1);
    completions->count--;
  }
  return taken;
}

static void unlink_drainer(mst_completions *completions, mst_drainer *drainer) {
  mst_drainer **link = &completions->drainers;
  while (*link != drainer) {
    link = &(*link)->next;
  }
  *link = drainer->next;
  drainer->queued = false;
}

/* Parks until there may be something to take. False: the deadline passed first. Lock held, but for the time parked. */
static bool park(mst_device *device, mst_drainer *drainer, uint64_t deadline) {
  drainer->next = device->completions.drainers;
  device->completions.drainers = drainer;
  drainer->queued = true;
  mst_unlock(device);
  bool unparked = mst_park(&drainer->parker, deadline);
  mst_lock(device);
  if (!unparked && !drainer->queued) {
    /* Taken off the list just now: the token is on its way. */
    mst_unlock(device);
    unparked = mst_park(&drainer->parker, MST_NEVER);
    mst_lock(device);
  }
  if (!unparked) {
    unlink_drainer(&device->completions, drainer);
  }
  return unparked;
}

int32_t mst_device_next_completions(mst_device *device, mst_completion *out_completions, int32_t capacity,
                                    int64_t timeout_ns, int32_t *out_count) {
  MST_ENTER(mst_device_next_completions);
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  if (out_completions == NULL || out_count == NULL || capacity < 1) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no room for completions");
  }
  mst_drainer drainer;
  if (!mst_parker_init(&drainer.parker)) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no thread resources left");
  }
  mst_completions *completions = &device->completions;
  uint64_t deadline = timeout_ns == 0 ? 0 : mst_deadline(timeout_ns);
  int32_t status = MST_OK;
  int32_t count = 0;

  mst_lock(device);
  completions->draining++;
  for (;;) {
    count = take(completions, out_completions, capacity);
    /* A wake is answered with nothing only: who drains until that cannot miss it behind completions. */
    bool woken = count == 0 && completions->wakes > 0;
    if (woken) {
      completions->wakes--;
    }
    if (count > 0 || woken || atomic_load_explicit(&device->closed, memory_order_relaxed)) {
      break;
    }
    if (timeout_ns == 0 || !park(device, &drainer, deadline)) {
      /* A last look: what came in while the time ran out is not left to the next call. */
      count = take(completions, out_completions, capacity);
      status = count > 0 ? MST_OK : MST_TIMEOUT;
      break;
    }
  }
  if (completions->count > 0) {
    mst_completions_tell(device); /* the push that brought these unparked only this thread */
  }
  completions->draining--;
  if (completions->draining == 0 && device->scheduler.closer != NULL) {
    mst_unpark_later(device, device->scheduler.closer);
    device->scheduler.closer = NULL;
  }
  mst_unlock(device);

  mst_parker_destroy(&drainer.parker);
  *out_count = count;
  return status;
}

int32_t mst_device_wake(mst_device *device) {
  MST_ENTER(mst_device_wake);
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  mst_lock(device);
  mst_completions *completions = &device->completions;
  /* One for each present call, or one for the next: further wakes tell nobody anything new. */
  uint32_t most = completions->draining > 0 ? completions->draining : 1;
  if (completions->wakes < most) {
    completions->wakes++;
    unpark_drainers(device, 1);
  }
  mst_unlock(device);
  return MST_OK;
}
