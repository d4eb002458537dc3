/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The timeline of a queue.
 *
 *     completed <= committed <= completed + max_in_flight          committed < open value = committed + 1, if one is open
 *
 * Invariants
 *   1. committed grows by one with each commit, completed by one with each publish; neither ever goes back. Both are
 *      atomics that anybody reads without a lock.
 *   2. The command buffer that signals v lives in slot (v - 1) % max_in_flight. The encoding side, which its caller
 *      serialises, owns it from begin(v) to commit(v); from then on the runner of the queue owns it, until completed
 *      reaches v. begin(v) may use the slot because it saw completed >= v - max_in_flight (acquire).
 *   3. Publishing v means, in this order and within one hold of the scheduler's lock: its completion is put into the
 *      completion queue; if it failed and no failure is remembered, failed becomes v; completed becomes v (release);
 *      waits of other queues and blocked threads that v satisfies are let go. All that the command buffer wrote happens
 *      before completed = v, and buffers and executables that it used are given back before.
 *   4. A wait for (queue, v) is resolved exactly once: at encoding, if v is completed by then, else by the publish of v.
 *      What it learns then, that the queue had failed at or before v, is final: a reset afterwards does not change it.
 *   5. Waits only name committed values, and a command buffer is committed after its waits were encoded. So the awaited
 *      command buffer was always committed earlier: there is no cycle, and every committed value is reached.
 *
 * A host queue has no command buffers and is never run; its committed value is its completed one. A signal publishes as in
 * 3, for all values up to its own. For waits of its values 5 holds as long as the host keeps its word, and then:
 *   6. When a host queue or its device ends, every wait that is left on it is resolved within one hold of the lock, by the
 *      publish of a failure of all values up to the greatest awaited, and none is registered any more. So no end waits for a signal.
 *
 * A failure of a queue sticks until reset, but its later command buffers run all the same, as they do on a GPU; who
 * waits for any value at or after the failure gets the failure. */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>

#include "../common/error.h"
#include "test_hooks.h"

/* ---------------------------------------------------------------------------------------------------- publishing -- */

/* What a wait for `value`, which is completed, learns of its queue. Lock held. */
static mst_cause failure_for(mst_queue *awaited, uint64_t value) {
  uint64_t failed = atomic_load_explicit(&awaited->failed, memory_order_relaxed);
  return failed != 0 && failed <= value ? awaited->failure : (mst_cause){0, 0};
}

static void unlink_wait(mst_wait *wait) {
  *(wait->previous != NULL ? &wait->previous->next : &wait->awaited->waits) = wait->next;
  if (wait->next != NULL) {
    wait->next->previous = wait->previous;
  }
}

/* Lets go the waits that the completed value satisfies. */
static void resolve_waits(mst_queue *queue, uint64_t completed) {
  mst_wait *next = NULL;
  for (mst_wait *wait = queue->waits; wait != NULL; wait = next) {
    next = wait->next;
    if (wait->value > completed) {
      continue;
    }
    unlink_wait(wait);
    wait->failure = failure_for(queue, wait->value);
    mst_queue *waiting = wait->queue;
    atomic_store_explicit(&wait->resolved, true, memory_order_release);
    if (waiting->state == MST_QUEUE_PARKED && waiting->parked_on == wait) {
      mst_scheduler_resume(waiting);
    }
  }
}

/* Lets go the threads that the completed value satisfies. */
static void unpark_waiters(mst_queue *queue, uint64_t completed) {
  mst_waiter **link = &queue->waiters;
  while (*link != NULL) {
    mst_waiter *waiter = *link;
    if (waiter->value > completed) {
      link = &waiter->next;
      continue;
    }
    *link = waiter->next;
    waiter->queued = false;
    mst_unpark_later(queue->device, &waiter->parker);
  }
}

/* Invariant 3, from the completion on, for the values from `first` to the record's. */
static void tell(mst_queue *queue, uint64_t first, const mst_completion_record *record, bool unhurried) {
  mst_completions_push(queue->device, record, unhurried);
  if (record->status != MST_OK && atomic_load_explicit(&queue->failed, memory_order_relaxed) == 0) {
    queue->failure = record->status == MST_ERROR_DEPENDENCY ? record->cause : (mst_cause){queue->id, first};
    atomic_store_explicit(&queue->failed, first, memory_order_release);
  }
  atomic_store_explicit(&queue->completed, record->value, memory_order_release);
  /* The slot belongs to the encoding side again. */

  resolve_waits(queue, record->value);
  unpark_waiters(queue, record->value);
}

void mst_queue_publish(mst_queue *queue, bool helping) {
  mst_device *device = queue->device;
  mst_commands *commands = mst_queue_front(queue);
  mst_commands_clear(commands);

  mst_completion_record record = {queue->id,       commands->value,  commands->start_ns, commands->end_ns,
                                  commands->cause, commands->reason, commands->status,   false};
  tell(queue, record.value, &record, helping && commands->awaited && record.status == MST_OK);
  device->scheduler.uncompleted--;
  if (device->scheduler.uncompleted == 0 && device->scheduler.closer != NULL) {
    mst_unpark_later(device, device->scheduler.closer);
    device->scheduler.closer = NULL;
  }
}

void mst_queue_register_wait(mst_wait *wait) {
  mst_queue *awaited = wait->awaited;
  bool completed = mst_queue_completed(awaited) >= wait->value;
  wait->failure = completed ? failure_for(awaited, wait->value) : (mst_cause){0, 0};
  atomic_store_explicit(&wait->resolved, completed, memory_order_relaxed);
  if (!completed) {
    wait->previous = NULL;
    wait->next = awaited->waits;
    if (wait->next != NULL) {
      wait->next->previous = wait;
    }
    awaited->waits = wait;
  }
}

void mst_queue_unregister_wait(mst_wait *wait) {
  if (!atomic_load_explicit(&wait->resolved, memory_order_relaxed)) {
    unlink_wait(wait);
  }
}

/* ------------------------------------------------------------------------------------------------- host queues ---- */

/* Completes all values up to `value`; room for the completion is reserved. Lock held. */
static void signal_value(mst_queue *queue, uint64_t value, const char *reason, bool owns_reason) {
  mst_completion_record record = {queue->id, value, 0, 0, {0, 0}, reason, MST_OK, owns_reason};
  if (reason != NULL) {
    record.status = MST_ERROR_EXECUTION;
  }
  atomic_store_explicit(&queue->committed, value, memory_order_relaxed);
  tell(queue, mst_queue_completed(queue) + 1, &record, false);
}

/* A copy for a completion; NULL if there is no memory. */
static char *copy_reason(const char *failure) {
  size_t bytes = sizeof(((mst_completion *)NULL)->message);
  char *reason = malloc(bytes);
  if (reason != NULL) {
    mst_copy_text(reason, bytes, failure[0] != '\0' ? failure : "failed by the host");
  }
  return reason;
}

int32_t mst_queue_signal(mst_queue *queue, uint64_t value, const char *failure) {
  MST_ENTER(mst_queue_signal);
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (!mst_queue_is_host(queue)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "queue %llu is not a host queue", (unsigned long long)queue->id);
  }
  char *reason = failure != NULL ? copy_reason(failure) : NULL;
  if (failure != NULL && reason == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a message");
  }
  mst_device *device = queue->device;
  mst_lock(device);
  bool ended = queue->ended;
  uint64_t completed = mst_queue_completed(queue);
  bool valid = !ended && value > completed;
  bool reserved = valid && mst_completions_reserve(device);
  if (reserved) {
    signal_value(queue, value, reason, reason != NULL);
  }
  mst_unlock(device);
  if (reserved) {
    return MST_OK;
  }
  free(reason);
  if (valid) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a completion");
  }
  return ended ? MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed")
               : MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of queue %llu is signalled already (the last is %llu)",
                          (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)completed);
}

void mst_queue_end_promises(mst_queue *queue) {
  if (!mst_queue_is_host(queue) || queue->ended) {
    return;
  }
  queue->ended = true;
  uint64_t awaited = 0;
  for (const mst_wait *wait = queue->waits; wait != NULL; wait = wait->next) {
    awaited = wait->value > awaited ? wait->value : awaited;
  }
  if (awaited > 0) {
    signal_value(queue, awaited, "never signalled: its host queue or its device has ended", false);
  } else {
    mst_completions_unreserve(queue->device);
  }
  unpark_waiters(queue, UINT64_MAX);
}

/* ------------------------------------------------------------------------------------------------------ waiting --- */

static void unlink_waiter(mst_queue *queue, mst_waiter *waiter) {
  mst_waiter **link = &queue->waiters;
  while (*link != waiter) {
    link = &(*link)->next;
  }
  *link = waiter->next;
  waiter->queued = false;
}

/* Parks until `value` is completed or this thread may help. False: the deadline passed first. Lock held, but for the
 * time parked. */
static bool park_for(mst_queue *queue, mst_waiter *waiter, uint64_t value, uint64_t deadline) {
  mst_device *device = queue->device;
  waiter->value = value;
  waiter->next = queue->waiters;
  waiter->queued = true;
  queue->waiters = waiter;
  mst_unlock(device);
  bool unparked = mst_park(&waiter->parker, deadline);
  mst_lock(device);
  if (!unparked && !waiter->queued) {
    /* Taken off the list just now: the token is on its way. */
    mst_unlock(device);
    unparked = mst_park(&waiter->parker, MST_NEVER);
    mst_lock(device);
  }
  if (!unparked) {
    unlink_waiter(queue, waiter);
  }
  return unparked;
}

/* Waits for a committed value or one of a host queue, helping. MST_OK, MST_TIMEOUT, OUT_OF_MEMORY; INVALID_STATE if the
 * host queue ends first. */
static int32_t wait_for(mst_queue *queue, uint64_t value, uint64_t deadline) {
  mst_device *device = queue->device;
  mst_waiter waiter;
  if (!mst_parker_init(&waiter.parker)) {
    return mst_error(MST_ERROR_OUT_OF_MEMORY, "mst_queue_wait", "no thread resources left");
  }
  int32_t status = MST_OK;
  mst_lock(device);
  queue->visitors++;
  while (mst_queue_completed(queue) < value) {
    if (queue->ended) {
      status = mst_error(MST_ERROR_INVALID_STATE, "mst_queue_wait", "the host queue or its device has ended");
      break;
    }
    bool went_on = mst_scheduler_help(queue, deadline) || park_for(queue, &waiter, value, deadline);
    if ((!went_on || (deadline != MST_NEVER && mst_now() >= deadline)) && mst_queue_completed(queue) < value) {
      status = MST_TIMEOUT;
      break;
    }
  }
  queue->visitors--;
  if (queue->visitors == 0 && queue->destroyer != NULL) {
    mst_unpark_later(device, queue->destroyer);
    queue->destroyer = NULL;
  }
  mst_unlock(device);
  mst_parker_destroy(&waiter.parker);
  return status;
}

int32_t mst_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns) {
  MST_ENTER(mst_queue_wait);
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (mst_queue_completed(queue) >= value) {
    return MST_OK;
  }
  uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_acquire);
  if (value > committed && !mst_queue_is_host(queue)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of queue %llu is not committed (the last is %llu)",
                    (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)committed);
  }
  return timeout_ns == 0 ? MST_TIMEOUT : wait_for(queue, value, mst_deadline(timeout_ns));
}

uint64_t mst_queue_completed_value(mst_queue *queue) {
  return mst_queue_completed(queue);
}

uint64_t mst_queue_failed_value(mst_queue *queue) {
  return atomic_load_explicit(&queue->failed, memory_order_acquire);
}

/* -------------------------------------------------------------------------------------- beginning and end --------- */

static void link_queue(mst_queue *queue) {
  mst_scheduler *scheduler = &queue->device->scheduler;
  queue->all_next = scheduler->queues;
  if (queue->all_next != NULL) {
    queue->all_next->all_previous = queue;
  }
  scheduler->queues = queue;
}

static void unlink_queue(mst_queue *queue) {
  *(queue->all_previous != NULL ? &queue->all_previous->all_next : &queue->device->scheduler.queues) = queue->all_next;
  if (queue->all_next != NULL) {
    queue->all_next->all_previous = queue->all_previous;
  }
}

/* Makes a queue, a host queue if max_in_flight is 0, on behalf of `function`. */
static int32_t create(mst_device *device, uint64_t id, const char *label, uint32_t max_in_flight, mst_queue **out_queue,
                      const char *function) {
  if (!mst_is(device, MST_TAG_DEVICE) || out_queue == NULL) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "no device or no out-parameter");
  }
  bool host = max_in_flight == 0;
  mst_queue *queue = calloc(1, sizeof(mst_queue));
  mst_commands *commands = host ? NULL : calloc(max_in_flight, sizeof(mst_commands));
  if (queue == NULL || (commands == NULL && !host)) {
    free(queue);
    free(commands);
    return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a queue");
  }
  for (uint32_t i = 0; i < max_in_flight; i++) {
    commands[i].queue = queue;
  }
  queue->tag = MST_TAG_QUEUE;
  queue->max_in_flight = max_in_flight;
  queue->id = id;
  queue->device = device;
  queue->commands = commands;
  snprintf(queue->label, sizeof(queue->label), "%s", label != NULL ? label : "");

  mst_lock(device);
  bool taken = false;
  for (mst_queue *other = device->scheduler.queues; other != NULL && !taken; other = other->all_next) {
    taken = other->id == id;
  }
  bool linked = !taken && (!host || mst_completions_reserve(device));
  if (linked) {
    mst_device_retain(device);
    link_queue(queue);
  }
  mst_unlock(device);
  if (!linked) {
    free(commands);
    free(queue);
    return taken ? mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the device has a queue %llu already",
                             (unsigned long long)id)
                 : mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a completion");
  }
  atomic_fetch_add(&mst_live.queues, 1);
  *out_queue = queue;
  return MST_OK;
}

int32_t mst_queue_create(mst_device *device, uint64_t id, const char *label, uint32_t max_in_flight,
                         mst_queue **out_queue) {
  MST_ENTER(mst_queue_create);
  if (max_in_flight < 1 || max_in_flight > MST_MAX_IN_FLIGHT) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "max_in_flight is %u, not 1 to %d", max_in_flight, MST_MAX_IN_FLIGHT);
  }
  return create(device, id, label, max_in_flight, out_queue, __func__);
}

int32_t mst_queue_create_host(mst_device *device, uint64_t id, const char *label, mst_queue **out_queue) {
  MST_ENTER(mst_queue_create_host);
  return create(device, id, label, 0, out_queue, __func__);
}

int32_t mst_queue_reset(mst_queue *queue) {
  MST_ENTER(mst_queue_reset);
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (queue->open_value != 0) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "command buffer %llu is open", (unsigned long long)queue->open_value);
  }
  mst_lock(queue->device);
  uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_relaxed);
  bool idle = mst_queue_completed(queue) == committed;
  if (idle) {
    queue->failure = (mst_cause){0, 0};
    atomic_store_explicit(&queue->failed, 0, memory_order_release);
  }
  mst_unlock(queue->device);
  return idle ? MST_OK
              : MST_FAIL(MST_ERROR_INVALID_STATE, "command buffer %llu of queue %llu is not completed",
                         (unsigned long long)committed, (unsigned long long)queue->id);
}

int32_t mst_queue_destroy(mst_queue *queue) {
  MST_ENTER(mst_queue_destroy);
  if (queue == NULL) {
    return MST_OK;
  }
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  mst_device *device = queue->device;
  mst_parker parker;
  if (!mst_parker_init(&parker)) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no thread resources left");
  }
  mst_lock(device);
  queue->held = false;
  mst_scheduler_consider(queue, false);
  mst_queue_end_promises(queue);
  mst_unlock(device);
  int32_t status = wait_for(queue, atomic_load_explicit(&queue->committed, memory_order_relaxed), MST_NEVER);
  if (status != MST_OK) {
    mst_parker_destroy(&parker);
    return status;
  }
  mst_commands_drop_open(queue);
  mst_lock(device);
  while (queue->visitors > 0) {
    queue->destroyer = &parker;
    mst_unlock(device);
    mst_park(&parker, MST_NEVER);
    mst_lock(device);
  }
  unlink_queue(queue);
  mst_unlock(device);
  mst_parker_destroy(&parker);

  for (uint32_t i = 0; i < queue->max_in_flight; i++) {
    mst_commands_free(&queue->commands[i]);
  }
  free(queue->commands);
  queue->tag = MST_TAG_ENDED;
  free(queue);
  atomic_fetch_sub(&mst_live.queues, 1);
  mst_device_release(device);
  return MST_OK;
}
