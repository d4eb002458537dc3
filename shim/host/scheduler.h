/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_SCHEDULER_H
#define MST_HOST_SCHEDULER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mst.h"
#include "platform.h"

typedef struct mst_queue_list {
  mst_queue *first;
  mst_queue *last;
  uint32_t count;
} mst_queue_list;

typedef struct mst_worker {
  mst_device *device;
  pthread_t thread;
  mst_parker parker;
  struct mst_worker *next_idle;
  bool idle; /* is in the scheduler's list of idle workers */
} mst_worker;

/* See scheduler.c. Everything below the lock is guarded by it, but for the atomics. */
typedef struct mst_scheduler {
  pthread_mutex_t lock;
  mst_parker *unparked; /* taken off their lists; get their tokens when the lock is released */

  mst_queue *queues;      /* all queues of the device */
  mst_queue_list ready;   /* may run, oldest first */
  mst_queue_list hinted;  /* may run, but a waiter is expected to run them */
  mst_queue_list delayed; /* executed, to be completed at queue->due, earliest first */
  uint64_t uncompleted;   /* committed command buffers that are not completed */
  mst_parker *closer;     /* mst_device_close, waiting */

  mst_worker *workers;
  uint32_t worker_count;
  mst_worker *idle; /* most recently idle first: its caches are warm */
  bool stopping;

  mst_worker *timekeeper; /* the idle worker that watches the time, if there is something to watch */
  uint64_t timekeeper_deadline;
  bool ticking;     /* the next tick is at tick_due */
  bool tick_wanted; /* after that one, too */
  uint64_t tick;
  uint64_t tick_due;

  uint32_t helpers; /* waiting threads that execute just now */
  uint32_t helper_limit;

  uint64_t random; /* state of the generator of mst_test_seed, 0 = oldest first */
  atomic_uint_least64_t latency_ns;
} mst_scheduler;

/* Starts the workers. MST_OK or an error without a trace. */
int32_t mst_scheduler_start(mst_device *device, uint32_t worker_count);

/* Ends the workers; nothing is committed and uncompleted any more. Lock not held. */
void mst_scheduler_stop(mst_device *device);

void mst_lock(mst_device *device);
/* Releases the lock and then gives the tokens that are due. */
void mst_unlock(mst_device *device);

/* Gives a parker, just taken off its list, its token as soon as the lock is released. Lock held. */
void mst_unpark_later(mst_device *device, mst_parker *parker);

/* The functions below need the lock. */

/* Looks at a queue that nobody runs: it becomes ready, hinted or idle, as its command buffers and its hold allow. */
void mst_scheduler_consider(mst_queue *queue, bool waiting);

/* A wait that the parked queue stood at is resolved. */
void mst_scheduler_resume(mst_queue *queue);

/* Takes away the thread-switch-saving delay of a hinted queue. */
void mst_scheduler_promote(mst_queue *queue);

/* Sees to it that a tick comes, at which drainers are told of completions. */
void mst_scheduler_tick_soon(mst_device *device);

/* Takes a queue that has not started its front command buffer back from the lists. */
void mst_scheduler_withdraw(mst_queue *queue);

/* Executes work that brings `queue` on, in the calling thread, at most up to the first operation that ends after the
 * deadline. False if there is none that this thread may take. Releases the lock meanwhile. */
bool mst_scheduler_help(mst_queue *queue, uint64_t deadline);

#endif
