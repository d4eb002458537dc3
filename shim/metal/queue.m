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
 * A host queue has an event, and no command queue. All its values are signalled by hand, after they were published as in 2:
 * what waits on the GPU is let go last, and is published after its root is done. Its committed value is its completed one.
 * For waits of its values 5 holds as long as the host keeps its word, and then:
 *   6. When a host queue or its device ends, every wait that is left on it is resolved, by the publish of a failure of all
 *      values up to the greatest awaited, and none is registered any more. So no end waits for a signal.
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

/* Completes what can be completed of the listed queues. Lock held. */
static void publish_listed(mst_queue *list, mst_commands **published) {
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

void mst_queue_publish(mst_queue *queue, mst_commands **published) {
  queue->next_to_publish = NULL;
  queue->listed_to_publish = true;
  publish_listed(queue, published);
}

void mst_queue_raise(id<MTLSharedEvent> event, uint64_t value) {
  /* Two threads at once could set the lesser value last. */
  static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&one_at_a_time);
  if (event.signaledValue < value) {
    event.signaledValue = value;
  }
  pthread_mutex_unlock(&one_at_a_time);
}

/* ------------------------------------------------------------------------------------------------- host queues ---- */

/* Publishes all values up to `value`; room for the completion is reserved. Lock held. To be followed by finish_signal. */
static void signal_value(mst_queue *queue, uint64_t value, const char *failure, mst_commands **published) {
  mst_completion completion;
  memset(&completion, 0, sizeof(completion));
  completion.queue_id = queue->id;
  completion.value = value;
  if (failure != NULL) {
    completion.status = MST_ERROR_EXECUTION;
    mst_copy_text(completion.message, sizeof(completion.message), failure[0] != '\0' ? failure : "failed by the host");
  }
  mst_completions_push(&queue->device->completions, &completion);
  if (failure != NULL && atomic_load_explicit(&queue->failed, memory_order_relaxed) == 0) {
    uint64_t first = mst_queue_completed(queue) + 1;
    queue->failure = (mst_cause){queue->id, first};
    atomic_store_explicit(&queue->failed, first, memory_order_release);
  }
  atomic_store_explicit(&queue->committed, value, memory_order_relaxed);
  atomic_store_explicit(&queue->completed, value, memory_order_release);
  if (queue->visitors > 0) {
    pthread_cond_broadcast(&queue->changed);
  }
  mst_queue *list = NULL;
  resolve_waits(queue, &list);
  publish_listed(list, published);
  queue->device->handlers++;
}

/* Lets the GPU go on. Lock not held. */
static void finish_signal(mst_device *device, id<MTLSharedEvent> event, uint64_t value, mst_commands *published) {
  mst_queue_raise(event, value);
  mst_commands_end(published);
  mst_lock(device);
  device->handlers--;
  mst_device_consider_idle(device);
  mst_unlock(device);
}

int32_t mst_queue_signal(mst_queue *queue, uint64_t value, const char *failure) {
  @autoreleasepool {
    if (!mst_is(queue, MST_TAG_QUEUE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
    }
    if (!mst_queue_is_host(queue)) {
      return MST_FAIL(MST_ERROR_INVALID_STATE, "queue %llu is not a host queue", (unsigned long long)queue->id);
    }
    mst_device *device = queue->device;
    mst_commands *published = NULL;
    mst_lock(device);
    bool ended = queue->ended;
    uint64_t completed = mst_queue_completed(queue);
    bool valid = !ended && value > completed;
    bool reserved = valid && mst_completions_reserve(&device->completions);
    if (reserved) {
      signal_value(queue, value, failure, &published);
    }
    mst_unlock(device);
    if (reserved) {
      finish_signal(device, queue->event, value, published);
      return MST_OK;
    }
    if (valid) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a completion");
    }
    return ended ? MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed")
                 : MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of queue %llu is signalled already (the last is %llu)",
                            (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)completed);
  }
}

/* Invariant 6. The greatest value awaited, to be followed by finish_signal, or 0. Lock held. */
static uint64_t end_promises(mst_queue *queue, mst_commands **published) {
  queue->ended = true;
  uint64_t awaited = 0;
  for (const mst_wait *wait = queue->waits; wait != NULL; wait = wait->next) {
    awaited = wait->value > awaited ? wait->value : awaited;
  }
  if (awaited > 0) {
    signal_value(queue, awaited, "never signalled: its host queue or its device has ended", published);
  } else {
    mst_completions_unreserve(&queue->device->completions);
  }
  pthread_cond_broadcast(&queue->changed);
  return awaited;
}

void mst_queue_end_all_promises(mst_device *device) {
  mst_lock(device);
  mst_queue *queue = device->queues;
  while (queue != NULL) {
    if (!mst_queue_is_host(queue) || queue->ended) {
      queue = queue->next;
      continue;
    }
    mst_commands *published = NULL;
    uint64_t awaited = end_promises(queue, &published);
    id<MTLSharedEvent> event = [queue->event retain];
    mst_unlock(device);
    if (awaited > 0) {
      finish_signal(device, event, awaited, published);
    }
    [event release];
    mst_lock(device);
    queue = device->queues; /* the list may have changed meanwhile */
  }
  mst_unlock(device);
}

/* ------------------------------------------------------------------------------------------------------ waiting --- */

/* Waits for a committed value or one of a host queue. MST_OK, MST_TIMEOUT; INVALID_STATE if the host queue ends first. Lock
 * held, but for the time asleep. */
static int32_t wait_for(mst_queue *queue, uint64_t value, uint64_t deadline) {
  int32_t status = MST_OK;
  queue->visitors++;
  while (status == MST_OK && mst_queue_completed(queue) < value) {
    if (queue->ended) {
      status = mst_error(MST_ERROR_INVALID_STATE, "mst_queue_wait", "the host queue or its device has ended");
    } else if (!mst_wait_until(&queue->changed, &queue->device->lock, deadline)) {
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
  if (value > committed && !mst_queue_is_host(queue)) {
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

/* Makes a queue, a host queue if max_in_flight is 0, on behalf of `function`. */
static int32_t create(mst_device *device, uint64_t queue_id, const char *label, uint32_t max_in_flight,
                      mst_queue **out_queue, const char *function) {
  @autoreleasepool {
    if (!mst_is(device, MST_TAG_DEVICE) || out_queue == NULL) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "no device or no out-parameter");
    }
    bool host = max_in_flight == 0;
    mst_queue *queue = calloc(1, sizeof(mst_queue));
    if (queue == NULL) {
      return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a queue");
    }
    queue->tag = MST_TAG_QUEUE;
    queue->max_in_flight = max_in_flight;
    queue->id = queue_id;
    queue->device = device;
    pthread_cond_init(&queue->changed, NULL);
    queue->metal = host ? nil : [device->metal newCommandQueueWithMaxCommandBufferCount:MST_MOST_ROOTS];
    queue->event = [device->metal newSharedEvent];
    if ((queue->metal == nil && !host) || queue->event == nil) {
      free_queue(queue);
      return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "Metal gives no further %s",
                       host ? "event" : "command queue");
    }
    NSString *name = label == NULL ? nil : [NSString stringWithUTF8String:label];
    queue->metal.label = name;
    queue->event.label = name;
    mst_lock(device);
    bool reserved = !host || mst_completions_reserve(&device->completions);
    bool linked = reserved && link_queue(queue);
    if (reserved && !linked && host) {
      mst_completions_unreserve(&device->completions);
    }
    mst_unlock(device);
    if (!linked) {
      free_queue(queue);
      return reserved ? mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the device has a queue %llu already",
                                  (unsigned long long)queue_id)
                      : mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for a completion");
    }
    mst_device_retain(device);
    *out_queue = queue;
    return MST_OK;
  }
}

int32_t mst_queue_create(mst_device *device, uint64_t queue_id, const char *label, uint32_t max_in_flight,
                         mst_queue **out_queue) {
  if (max_in_flight < 1 || max_in_flight > MST_MAX_IN_FLIGHT) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "max_in_flight is %u, not 1 to %d", max_in_flight, MST_MAX_IN_FLIGHT);
  }
  return create(device, queue_id, label, max_in_flight, out_queue, __func__);
}

int32_t mst_queue_create_host(mst_device *device, uint64_t queue_id, const char *label, mst_queue **out_queue) {
  return create(device, queue_id, label, 0, out_queue, __func__);
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
    if (mst_queue_is_host(queue) && !queue->ended) {
      mst_commands *published = NULL;
      uint64_t awaited = end_promises(queue, &published);
      mst_unlock(device);
      if (awaited > 0) {
        finish_signal(device, queue->event, awaited, published);
      }
      mst_lock(device);
    }
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
