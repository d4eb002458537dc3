/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Who runs which queue, and when.
 *
 * Invariants
 *   1. A queue is in exactly one state (enum mst_queue_state), changed under the lock. Whoever moves it to RUNNING is
 *      its only runner until it moves on, so command buffers of a queue run one at a time and in order.
 *   2. The lock is held for list operations only. Nothing executes or waits for anything with it held.
 *   3. No thread of its own for a queue: a fixed set of workers takes ready queues, one command buffer at a time, oldest
 *      first. A queue that stands at an unresolved wait is PARKED and occupies nobody; the thread that completes the
 *      awaited value makes it ready again.
 *   4. A ready queue is never forgotten: when one becomes ready, an idle worker is unparked, and a worker goes idle
 *      only when no queue is ready.
 *   5. A thread in mst_queue_wait helps: it takes the queue that it waits for, or the one which that is parked on, and
 *      executes it itself. For this a queue committed with MST_COMMIT_WAITING is HINTED: workers leave it alone for
 *      one to two ticks, so that commit and wait together switch no threads.
 *   6. While there is something to do at a given time (a tick, delayed completions), one idle worker, the timekeeper,
 *      parks with a deadline; the others park without. If all workers are busy, each looks at the clock between two
 *      command buffers. Ticking goes on for one tick after the last hint, so that a stream of hints does not unpark the
 *      timekeeper for each. */
#include "scheduler.h"

#include <stdlib.h>

#include "../common/error.h"
#include "commands.h"
#include "device.h"
#include "queue.h"

/* A hinted queue is promoted after one to two of these: less than the 10 ms that mst.h promises. */
static const uint64_t TICK_NS = 4000000;

/* More helpers than this would only take turns on the CPUs, and a BLAS bounds how many threads may call it at once. */
enum { LEAST_HELPER_LIMIT = 16 };

/* -------------------------------------------------------------------------------------------- lock and parkers ---- */

void mst_lock(mst_device *device) {
  pthread_mutex_lock(&device->scheduler.lock);
}

void mst_unlock(mst_device *device) {
  mst_parker *parker = device->scheduler.unparked;
  device->scheduler.unparked = NULL;
  pthread_mutex_unlock(&device->scheduler.lock);
  /* The device may be gone from here on, if the caller does not keep it. */
  while (parker != NULL) {
    mst_parker *next = parker->next_unparked;
    mst_unpark(parker);
    parker = next;
  }
}

void mst_unpark_later(mst_device *device, mst_parker *parker) {
  parker->next_unparked = device->scheduler.unparked;
  device->scheduler.unparked = parker;
}

/* ------------------------------------------------------------------------------------------------------- lists ---- */

static void append(mst_queue_list *list, mst_queue *queue) {
  queue->list_previous = list->last;
  queue->list_next = NULL;
  if (list->last != NULL) {
    list->last->list_next = queue;
  } else {
    list->first = queue;
  }
  list->last = queue;
  list->count++;
}

static void take_out(mst_queue_list *list, mst_queue *queue) {
  if (queue->list_previous != NULL) {
    queue->list_previous->list_next = queue->list_next;
  } else {
    list->first = queue->list_next;
  }
  if (queue->list_next != NULL) {
    queue->list_next->list_previous = queue->list_previous;
  } else {
    list->last = queue->list_previous;
  }
  list->count--;
}

/* ------------------------------------------------------------------------------------------------ idle workers ---- */

static void take_out_idle(mst_scheduler *scheduler, mst_worker *worker) {
  mst_worker **link = &scheduler->idle;
  while (*link != worker) {
    link = &(*link)->next_idle;
  }
  *link = worker->next_idle;
  worker->idle = false;
  if (scheduler->timekeeper == worker) {
    scheduler->timekeeper = NULL;
  }
}

static void unpark_worker(mst_device *device, mst_worker *worker) {
  take_out_idle(&device->scheduler, worker);
  mst_unpark_later(device, &worker->parker);
}

/* Gets an idle worker to work, the timekeeper last. False if none is idle. */
static bool unpark_any_worker(mst_device *device) {
  mst_worker *worker = device->scheduler.idle;
  if (worker == NULL) {
    return false;
  }
  if (worker == device->scheduler.timekeeper && worker->next_idle != NULL) {
    worker = worker->next_idle;
  }
  unpark_worker(device, worker);
  return true;
}

/* ------------------------------------------------------------------------------------------------------- times ---- */

/* When there is something to do next. */
static uint64_t next_due(const mst_scheduler *scheduler) {
  uint64_t due = scheduler->ticking ? scheduler->tick_due : MST_NEVER;
  if (scheduler->delayed.first != NULL && scheduler->delayed.first->due < due) {
    due = scheduler->delayed.first->due;
  }
  return due;
}

/* Sees to it that somebody looks at the clock at next_due. */
static void watch_time(mst_device *device) {
  mst_scheduler *scheduler = &device->scheduler;
  uint64_t due = next_due(scheduler);
  if (due == MST_NEVER) {
    return;
  }
  if (scheduler->timekeeper == NULL) {
    unpark_any_worker(device);
  } else if (due < scheduler->timekeeper_deadline) {
    unpark_worker(device, scheduler->timekeeper);
  }
}

void mst_scheduler_tick_soon(mst_device *device) {
  mst_scheduler *scheduler = &device->scheduler;
  scheduler->tick_wanted = true;
  if (!scheduler->ticking) {
    scheduler->ticking = true;
    scheduler->tick_due = mst_now() + TICK_NS;
    watch_time(device);
  }
}

/* ------------------------------------------------------------------------------------------------ queue states ---- */

static void make_ready(mst_queue *queue) {
  mst_device *device = queue->device;
  queue->state = MST_QUEUE_READY;
  append(&device->scheduler.ready, queue);
  if (!unpark_any_worker(device) && queue->waiters != NULL) {
    /* Every worker is busy: let a thread that is blocked on this queue run it. */
    mst_waiter *waiter = queue->waiters;
    queue->waiters = waiter->next;
    waiter->queued = false;
    mst_unpark_later(device, &waiter->parker);
  }
}

static void make_hinted(mst_queue *queue) {
  mst_device *device = queue->device;
  mst_scheduler *scheduler = &device->scheduler;
  queue->state = MST_QUEUE_HINTED;
  queue->hint_tick = scheduler->tick;
  append(&scheduler->hinted, queue);
  mst_scheduler_tick_soon(device);
}

/* Whether the front command buffer, which must exist, may run: a hold keeps back only what has not started. */
static bool may_run(mst_queue *queue) {
  return !queue->held || queue->steps > 0 || mst_queue_front(queue)->started;
}

static bool has_work(mst_queue *queue) {
  return atomic_load_explicit(&queue->committed, memory_order_relaxed) != mst_queue_completed(queue);
}

void mst_scheduler_promote(mst_queue *queue) {
  if (queue->state == MST_QUEUE_HINTED) {
    take_out(&queue->device->scheduler.hinted, queue);
    make_ready(queue);
  }
}

void mst_scheduler_consider(mst_queue *queue, bool waiting) {
  if (queue->state == MST_QUEUE_HINTED && !waiting) {
    mst_scheduler_promote(queue);
  }
  if (queue->state != MST_QUEUE_IDLE || !has_work(queue) || !may_run(queue)) {
    return;
  }
  if (waiting) {
    make_hinted(queue);
  } else {
    make_ready(queue);
  }
}

void mst_scheduler_resume(mst_queue *queue) {
  queue->parked_on = NULL;
  make_ready(queue);
}

void mst_scheduler_withdraw(mst_queue *queue) {
  mst_scheduler *scheduler = &queue->device->scheduler;
  if ((queue->state == MST_QUEUE_READY || queue->state == MST_QUEUE_HINTED) && !may_run(queue)) {
    take_out(queue->state == MST_QUEUE_READY ? &scheduler->ready : &scheduler->hinted, queue);
    queue->state = MST_QUEUE_IDLE;
  }
}

/* --------------------------------------------------------------------------------------------------- execution ---- */

/* Takes a ready or hinted queue off its list; the caller runs it. */
static void claim(mst_queue *queue) {
  mst_scheduler *scheduler = &queue->device->scheduler;
  take_out(queue->state == MST_QUEUE_READY ? &scheduler->ready : &scheduler->hinted, queue);
  queue->state = MST_QUEUE_RUNNING;
  mst_commands *commands = mst_queue_front(queue);
  if (!commands->started) {
    commands->started = true;
    if (queue->held) {
      queue->steps--;
    }
  }
}

/* Completes the executed front command buffer of a running queue. Releases the lock meanwhile. */
static void complete(mst_queue *queue) {
  mst_device *device = queue->device;
  mst_unlock(device);
  mst_commands_retire(mst_queue_front(queue));
  mst_lock(device);
  mst_queue_publish(queue, false);
  queue->state = MST_QUEUE_IDLE;
  mst_scheduler_consider(queue, false);
}

/* Completes the executed front command buffer later. */
static void delay(mst_queue *queue, uint64_t due) {
  mst_queue_list *delayed = &queue->device->scheduler.delayed;
  queue->state = MST_QUEUE_DELAYED;
  queue->due = due;
  mst_queue *after = delayed->last;
  while (after != NULL && after->due > due) {
    after = after->list_previous;
  }
  queue->list_previous = after;
  queue->list_next = after != NULL ? after->list_next : delayed->first;
  *(queue->list_next != NULL ? &queue->list_next->list_previous : &delayed->last) = queue;
  *(after != NULL ? &after->list_next : &delayed->first) = queue;
  delayed->count++;
  watch_time(queue->device);
}

/* Executes the front command buffer of a claimed queue; `helping`: in a thread that is in mst_queue_wait. Releases the
 * lock meanwhile; the queue may be gone afterwards. */
static void run(mst_queue *queue, bool helping, uint64_t deadline) {
  mst_device *device = queue->device;
  mst_commands *commands = mst_queue_front(queue);
  for (;;) {
    mst_unlock(device);
    enum mst_run_outcome outcome = mst_commands_run(commands, deadline);
    uint64_t latency = atomic_load_explicit(&device->scheduler.latency_ns, memory_order_relaxed);
    if (outcome == MST_RUN_DONE && latency == 0) {
      mst_commands_retire(commands);
    }
    mst_lock(device);
    switch (outcome) {
      case MST_RUN_DONE:
        if (latency == 0) {
          mst_queue_publish(queue, helping);
          queue->state = MST_QUEUE_IDLE;
          mst_scheduler_consider(queue, false);
        } else {
          delay(queue, mst_deadline((int64_t)latency));
        }
        return;
      case MST_RUN_PAUSED:
        make_ready(queue);
        return;
      case MST_RUN_WAIT: {
        mst_wait *wait = mst_commands_wait(commands);
        if (!atomic_load_explicit(&wait->resolved, memory_order_relaxed)) {
          queue->state = MST_QUEUE_PARKED;
          queue->parked_on = wait;
          mst_scheduler_promote(wait->awaited);
          return;
        }
        break; /* resolved in between: go on */
      }
    }
  }
}

/* Does what is due by now. Releases the lock meanwhile. */
static void do_what_is_due(mst_device *device) {
  mst_scheduler *scheduler = &device->scheduler;
  if (next_due(scheduler) == MST_NEVER) {
    return;
  }
  uint64_t now = mst_now();
  if (scheduler->ticking && scheduler->tick_due <= now) {
    mst_queue *next = NULL;
    for (mst_queue *queue = scheduler->hinted.first; queue != NULL; queue = next) {
      next = queue->list_next;
      if (queue->hint_tick != scheduler->tick) {
        mst_scheduler_promote(queue);
      }
    }
    scheduler->tick++;
    scheduler->tick_due = now + TICK_NS;
    scheduler->ticking = scheduler->tick_wanted || scheduler->hinted.first != NULL;
    scheduler->tick_wanted = false;
    if (device->completions.unhurried) {
      mst_completions_tell(device);
    }
  }
  while (scheduler->delayed.first != NULL && scheduler->delayed.first->due <= now) {
    mst_queue *queue = scheduler->delayed.first;
    take_out(&scheduler->delayed, queue);
    queue->state = MST_QUEUE_RUNNING;
    mst_commands *commands = mst_queue_front(queue);
    if (commands->start_ns != 0) {
      commands->end_ns = now;
    }
    complete(queue);
  }
}

/* The ready queue that goes next; NULL if there is none. */
static mst_queue *choose(mst_scheduler *scheduler) {
  mst_queue *queue = scheduler->ready.first;
  if (queue == NULL || scheduler->random == 0) {
    return queue;
  }
  /* xorshift64 */
  scheduler->random ^= scheduler->random << 13;
  scheduler->random ^= scheduler->random >> 7;
  scheduler->random ^= scheduler->random << 17;
  for (uint64_t skip = scheduler->random % scheduler->ready.count; skip > 0; skip--) {
    queue = queue->list_next;
  }
  return queue;
}

/* Parks an idle worker until there is something to do, or until the time that it watches as the timekeeper. */
static void idle(mst_worker *worker) {
  mst_device *device = worker->device;
  mst_scheduler *scheduler = &device->scheduler;
  worker->idle = true;
  worker->next_idle = scheduler->idle;
  scheduler->idle = worker;
  uint64_t deadline = MST_NEVER;
  if (scheduler->timekeeper == NULL) {
    deadline = next_due(scheduler);
    if (deadline != MST_NEVER) {
      scheduler->timekeeper = worker;
      scheduler->timekeeper_deadline = deadline;
    }
  }
  mst_unlock(device);
  bool unparked = mst_park(&worker->parker, deadline);
  mst_lock(device);
  if (!unparked && !worker->idle) {
    /* Taken off the list just now: the token is on its way. */
    mst_unlock(device);
    mst_park(&worker->parker, MST_NEVER);
    mst_lock(device);
  } else if (!unparked) {
    take_out_idle(scheduler, worker);
  }
}

static void *work(void *argument) {
  mst_worker *worker = argument;
  mst_device *device = worker->device;
  mst_scheduler *scheduler = &device->scheduler;
  mst_lock(device);
  for (;;) {
    do_what_is_due(device);
    mst_queue *queue = choose(scheduler);
    if (queue != NULL) {
      claim(queue);
      if (scheduler->timekeeper == NULL && scheduler->idle != NULL) {
        watch_time(device);
      }
      run(queue, false, MST_NEVER);
    } else if (scheduler->stopping) {
      break;
    } else {
      idle(worker);
    }
  }
  mst_unlock(device);
  return NULL;
}

bool mst_scheduler_help(mst_queue *queue, uint64_t deadline) {
  mst_scheduler *scheduler = &queue->device->scheduler;
  while (queue->state == MST_QUEUE_PARKED) {
    queue = queue->parked_on->awaited;
  }
  if (queue->state != MST_QUEUE_READY && queue->state != MST_QUEUE_HINTED) {
    return false;
  }
  if (scheduler->helpers == scheduler->helper_limit) {
    mst_scheduler_promote(queue);
    return false;
  }
  scheduler->helpers++;
  claim(queue);
  run(queue, true, deadline);
  scheduler->helpers--;
  return true;
}

/* ------------------------------------------------------------------------------------------- start and the end ---- */

int32_t mst_scheduler_start(mst_device *device, uint32_t worker_count) {
  mst_scheduler *scheduler = &device->scheduler;
  uint32_t cpus = mst_cpu_count();
  scheduler->helper_limit = 2 * cpus > LEAST_HELPER_LIMIT ? 2 * cpus : LEAST_HELPER_LIMIT;
  scheduler->workers = calloc(worker_count, sizeof(mst_worker));
  if (scheduler->workers == NULL) {
    return mst_error(MST_ERROR_OUT_OF_MEMORY, "mst_device_open", "no memory for %u workers", worker_count);
  }
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
#if defined(__GLIBC__)
  /* Held for a fraction of a microsecond: spinning is cheaper than sleeping. */
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
  bool made = pthread_mutex_init(&scheduler->lock, &attributes) == 0;
  pthread_mutexattr_destroy(&attributes);
  if (!made) {
    free(scheduler->workers);
    return mst_error(MST_ERROR_OUT_OF_MEMORY, "mst_device_open", "no thread resources left");
  }
  for (uint32_t i = 0; i < worker_count; i++) {
    mst_worker *worker = &scheduler->workers[i];
    worker->device = device;
    if (!mst_parker_init(&worker->parker)) {
      break;
    }
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
      mst_parker_destroy(&worker->parker);
      break;
    }
    scheduler->worker_count++;
  }
  if (scheduler->worker_count < worker_count) {
    mst_scheduler_stop(device);
    return mst_error(MST_ERROR_OUT_OF_MEMORY, "mst_device_open", "could not start %u worker threads", worker_count);
  }
  return MST_OK;
}

void mst_scheduler_stop(mst_device *device) {
  mst_scheduler *scheduler = &device->scheduler;
  mst_lock(device);
  scheduler->stopping = true;
  while (unpark_any_worker(device)) {
  }
  mst_unlock(device);
  for (uint32_t i = 0; i < scheduler->worker_count; i++) {
    pthread_join(scheduler->workers[i].thread, NULL);
    mst_parker_destroy(&scheduler->workers[i].parker);
  }
  free(scheduler->workers);
  scheduler->workers = NULL;
  scheduler->worker_count = 0;
}
