/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The timeline of a queue.
 *
 *     completed <= committed <= completed + max_in_flight          open value = committed + 1, if one is open
 *
 * There are two views of it. On the GPU, the MTLSharedEvent: a command buffer signals its value as its last act, and
 * other queues wait for that. On the CPU, the atomics: `completed` is advanced by Metal's completion handlers, never
 * read off the event's signaledValue. The event can be ahead of them by the 60 to 90 us that a handler takes, but it
 * knows nothing of errors: a command buffer whose predecessor failed signals its value all the same, and so would one
 * that faults after its signal. mst.h promises that a failure is recorded before its value can be seen, so only what
 * has gone through a handler counts. (waitUntilCompleted is no faster: it returns after the handlers ran.)
 *
 * Publishing
 *   A committed command buffer is *executed* once Metal has called the completion handlers of all its root buffers
 *   (commands.m: there may be several). It is *published* once it is executed, its predecessor in the queue is
 *   published, and so is every value of another queue that it waited for. Handlers may come in any order; publishing
 *   does not.
 *
 * Invariants
 *   1. committed grows by one with each commit, completed by one with each publish; neither ever goes back.
 *   2. Publishing v means, in this order and within one hold of the device's lock: its uses of buffers are counted off;
 *      its completion is put into the completion queue; if it failed and no failure is remembered, failed becomes v;
 *      completed becomes v (release); waits of other queues for v are resolved and blocked threads woken.
 *   3. A wait for (queue, v) is resolved exactly once: at encoding, if v is completed by then, else by the publish of
 *      v. What it learns then, that the queue had failed at or before v, is final: a reset afterwards does not change
 *      it.
 *   4. The GPU may run a command buffer although what it waited for has failed: the values of failed buffers are
 *      signalled too, or it would hang. It ends with DEPENDENCY all the same, because it is published after what it
 *      waited for.
 *   5. Waits only name committed values, and a command buffer is committed after its waits were encoded. So the awaited
 *      command buffer was always committed earlier: there is no cycle, and every committed value is reached.
 *
 * A failed root buffer signals nothing. Its value is signalled by hand, after it was published and outside of the lock;
 * the event never goes back, so a later value that was signalled meanwhile stays.
 *
 * Metal promises the order in which the buffers of one queue start, not that they end in that order. A wait on the GPU
 * could therefore be let go by a later value a moment before an earlier buffer ends; what that one writes is protected
 * by hazard tracking (buffer.m), and the CPU sees values in order anyway.
 *
 * A failure of a queue sticks until reset, but its later command buffers run all the same; who waits for any value at
 * or after the failure gets the failure. */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "error.h"
#include "executable.h"
#include "platform.h"

/* ---------------------------------------------------------------------------------------------------- publishing -- */

mst_cause mst_queue_failure_for(const mst_queue *awaited, uint64_t value) {
  uint64_t failed = atomic_load_explicit(&awaited->failed, memory_order_relaxed);
  return failed != 0 && failed <= value ? awaited->failure : (mst_cause){0, 0};
}

static void write_completion(const mst_commands *commands, mst_completion *out) {
  memset(out, 0, sizeof(*out));
  out->queue_id = commands->queue->id;
  out->value = commands->value;
  out->gpu_start_ns = commands->start_ns;
  out->gpu_end_ns = commands->end_ns;
  out->status = commands->status;
  if (commands->cause.value != 0) {
    /* Also if a root buffer failed: it worked on what its dependency left undone. */
    out->status = MST_ERROR_DEPENDENCY;
    out->cause_queue_id = commands->cause.queue_id;
    out->cause_value = commands->cause.value;
    snprintf(out->message, sizeof(out->message),
             "its results are undefined: it depends on value %llu of queue %llu, "
             "which failed",
             (unsigned long long)commands->cause.value, (unsigned long long)commands->cause.queue_id);
  } else if (commands->status != MST_OK) {
    mst_copy_text(out->message, sizeof(out->message), commands->message);
  }
}

/* Publishes the front command buffer, whose turn it is. */
static void publish_front(mst_queue *queue) {
  mst_device *device = queue->device;
  mst_commands *commands = queue->first;
  queue->first = commands->next;
  if (queue->first == NULL) {
    queue->last = NULL;
  }
  mst_completion completion;
  write_completion(commands, &completion);
  for (uint32_t i = 0; i < commands->buffer_count; i++) {
    mst_buffer_unuse(commands->buffers[i]);
  }
  commands->buffer_count = 0;
  mst_completions_push(&device->completions, &completion);
  if (completion.status != MST_OK && atomic_load_explicit(&queue->failed, memory_order_relaxed) == 0) {
    queue->failure =
        completion.status == MST_ERROR_DEPENDENCY ? commands->cause : (mst_cause){queue->id, completion.value};
    atomic_store_explicit(&queue->failed, completion.value, memory_order_release);
  }
  if (commands->status != MST_OK) {
    commands->unsignalled = [queue->event retain]; /* the queue may be gone by the time it is signalled */
  }
  atomic_store_explicit(&queue->completed, completion.value, memory_order_release);
  device->unfinished--;
  if (queue->visitors > 0) {
    pthread_cond_broadcast(&queue->changed);
  }
}

/* Lets go the waits that the completed value satisfies, and adds the queues that can go on to `list`. */
static void resolve_waits(mst_queue *queue, mst_queue **list) {
  uint64_t completed = atomic_load_explicit(&queue->completed, memory_order_relaxed);
  mst_wait *next = NULL;
  for (mst_wait *wait = queue->waits; wait != NULL; wait = next) {
    next = wait->next;
    if (wait->value > completed) {
      continue;
    }
    mst_commands *commands = wait->commands;
    mst_wait_resolve(wait, mst_queue_failure_for(queue, wait->value));
    if (commands->unresolved == 0 && commands->queue->first == commands && !commands->queue->listed_to_publish) {
      commands->queue->listed_to_publish = true;
      commands->queue->next_to_publish = *list;
      *list = commands->queue;
    }
  }
}

void mst_queue_publish(mst_queue *queue, mst_commands **published) {
  mst_queue *list = queue;
  queue->next_to_publish = NULL;
  queue->listed_to_publish = true;
  while (list != NULL) {
    mst_queue *each = list;
    list = each->next_to_publish;
    each->listed_to_publish = false;
    mst_commands *front = each->first;
    while (front != NULL && front->roots == 0 && front->unresolved == 0) {
      publish_front(each);
      front->next = *published;
      *published = front;
      resolve_waits(each, &list);
      front = each->first;
    }
  }
}

/* ------------------------------------------------------------------------------------------------------ waiting --- */

/* Waits for a committed value. Lock held, but for the time asleep. */
static int32_t wait_for(mst_queue *queue, uint64_t value, uint64_t deadline) {
  int32_t status = MST_OK;
  queue->visitors++;
  while (status == MST_OK && mst_queue_completed(queue) < value) {
    if (!mst_wait_until(&queue->changed, &queue->device->lock, deadline)) {
      status = MST_TIMEOUT;
    }
  }
  queue->visitors--;
  if (queue->visitors > 0) {
    pthread_cond_broadcast(&queue->changed); /* mst_queue_destroy waits for the visitors to leave */
  }
  return status;
}

int32_t mst_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (mst_queue_completed(queue) >= value) {
    return MST_OK;
  }
  uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_acquire);
  if (value > committed) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of queue %llu is not committed (the last is %llu)",
                    (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)committed);
  }
  if (timeout_ns == 0) {
    return MST_TIMEOUT;
  }
  mst_device *device = queue->device;
  uint64_t deadline = mst_deadline(timeout_ns);
  mst_device_retain(device); /* the queue may end as soon as its visitors have left */
  mst_lock(device);
  int32_t status = wait_for(queue, value, deadline);
  mst_unlock(device);
  mst_device_release(device);
  return status;
}

uint64_t mst_queue_completed_value(mst_queue *queue) {
  return mst_queue_completed(queue);
}

uint64_t mst_queue_failed_value(mst_queue *queue) {
  return atomic_load_explicit(&queue->failed, memory_order_acquire);
}

/* -------------------------------------------------------------------------------------- beginning and end --------- */

/* Adds the queue to the device; false if its id is taken. Lock held. */
static bool link_queue(mst_queue *queue) {
  mst_device *device = queue->device;
  for (mst_queue *other = device->queues; other != NULL; other = other->next) {
    if (other->id == queue->id) {
      return false;
    }
  }
  queue->next = device->queues;
  if (queue->next != NULL) {
    queue->next->previous = queue;
  }
  device->queues = queue;
  return true;
}

static void unlink_queue(mst_queue *queue) {
  *(queue->previous != NULL ? &queue->previous->next : &queue->device->queues) = queue->next;
  if (queue->next != NULL) {
    queue->next->previous = queue->previous;
  }
}

static void free_queue(mst_queue *queue) {
  [queue->continued release];
  [queue->event release];
  [queue->metal release];
  pthread_cond_destroy(&queue->changed);
  queue->tag = MST_TAG_ENDED;
  free(queue);
}

int32_t mst_queue_create(mst_device *device, uint64_t queue_id, const char *label, uint32_t max_in_flight,
                         mst_queue **out_queue) {
  @autoreleasepool {
    if (!mst_is(device, MST_TAG_DEVICE) || out_queue == NULL) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
    }
    if (max_in_flight < 1 || max_in_flight > MST_MAX_IN_FLIGHT) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "max_in_flight is %u, not 1 to %d", max_in_flight, MST_MAX_IN_FLIGHT);
    }
    mst_queue *queue = calloc(1, sizeof(mst_queue));
    if (queue == NULL) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a queue");
    }
    queue->tag = MST_TAG_QUEUE;
    queue->max_in_flight = max_in_flight;
    queue->id = queue_id;
    queue->device = device;
    pthread_cond_init(&queue->changed, NULL);
    queue->metal = [device->metal newCommandQueueWithMaxCommandBufferCount:MST_MOST_ROOTS];
    queue->event = [device->metal newSharedEvent];
    if (queue->metal == nil || queue->event == nil) {
      free_queue(queue);
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "Metal gives no further command queue");
    }
    NSString *name = label == NULL ? nil : [NSString stringWithUTF8String:label];
    queue->metal.label = name;
    queue->event.label = name;
    mst_lock(device);
    bool linked = link_queue(queue);
    mst_unlock(device);
    if (!linked) {
      free_queue(queue);
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the device has a queue %llu already", (unsigned long long)queue_id);
    }
    mst_device_retain(device);
    *out_queue = queue;
    return MST_OK;
  }
}

int32_t mst_queue_reset(mst_queue *queue) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (queue->open != NULL) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "command buffer %llu is open", (unsigned long long)queue->open->value);
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
  @autoreleasepool {
    if (queue == NULL) {
      return MST_OK;
    }
    if (!mst_is(queue, MST_TAG_QUEUE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
    }
    mst_device *device = queue->device;
    mst_commands_drop_open(queue);
    mst_lock(device);
    queue->visitors++;
    uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_relaxed);
    while (mst_queue_completed(queue) < committed || queue->orphans > 0 || queue->visitors > 1) {
      pthread_cond_wait(&queue->changed, &device->lock);
    }
    unlink_queue(queue);
    mst_unlock(device);
    mst_executable_forget_queue(queue);
    free_queue(queue);
    mst_device_release(device);
    return MST_OK;
  }
}
