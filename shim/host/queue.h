/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_QUEUE_H
#define MST_HOST_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands.h"
#include "completions.h"
#include "device.h"
#include "mst.h"
#include "platform.h"

enum mst_queue_state {
  MST_QUEUE_IDLE,    /* nothing to run, or held */
  MST_QUEUE_READY,   /* in scheduler.ready */
  MST_QUEUE_HINTED,  /* in scheduler.hinted */
  MST_QUEUE_RUNNING, /* one thread executes the front command buffer */
  MST_QUEUE_PARKED,  /* the front command buffer stands at queue->parked_on */
  MST_QUEUE_DELAYED  /* in scheduler.delayed: executed, not completed */
};

/* A thread in mst_queue_wait that found nothing to execute. Lives on its stack. */
typedef struct mst_waiter {
  mst_parker parker;
  uint64_t value;
  struct mst_waiter *next;
  bool queued;
} mst_waiter;

/* See queue.c. */
struct mst_queue {
  uint32_t tag;
  uint32_t max_in_flight; /* 0: a host queue */
  uint64_t id;
  mst_device *device;
  char label[64];

  /* Timeline. */
  atomic_uint_least64_t committed;
  atomic_uint_least64_t completed;
  atomic_uint_least64_t failed;

  /* The encoding side: serialised by the caller. */
  uint64_t open_value; /* 0: none open */
  mst_commands *commands;

  /* The executing side: guarded by the scheduler's lock. */
  enum mst_queue_state state;
  mst_queue *list_previous; /* scheduler.ready, hinted or delayed */
  mst_queue *list_next;
  mst_queue *all_previous; /* scheduler.queues */
  mst_queue *all_next;
  mst_wait *parked_on;   /* PARKED */
  uint64_t hint_tick;    /* HINTED: scheduler.tick at that time */
  uint64_t due;          /* DELAYED: when to complete */
  mst_wait *waits;       /* unresolved waits of other queues for values of this one */
  mst_waiter *waiters;   /* blocked threads */
  uint32_t visitors;     /* threads inside mst_queue_wait */
  mst_parker *destroyer; /* mst_queue_destroy, waiting for the visitors */
  mst_cause failure;     /* where the failure at `failed` began */
  bool held;
  uint32_t steps; /* command buffers that a held queue may still start */
  bool ended;     /* a host queue that is signalled no more */
};

static inline bool mst_queue_is_host(const mst_queue *queue) {
  return queue->max_in_flight == 0;
}

/* The slot of the command buffer that signals `value`. */
static inline mst_commands *mst_queue_slot(mst_queue *queue, uint64_t value) {
  return &queue->commands[(value - 1) % queue->max_in_flight];
}

static inline uint64_t mst_queue_completed(mst_queue *queue) {
  return atomic_load_explicit(&queue->completed, memory_order_acquire);
}

/* The uncompleted command buffer with the least value; there must be one. Lock held, or the caller runs the queue. */
static inline mst_commands *mst_queue_front(mst_queue *queue) {
  return mst_queue_slot(queue, atomic_load_explicit(&queue->completed, memory_order_relaxed) + 1);
}

/* Makes `wait` resolved now, or when its value is completed. Lock held. */
void mst_queue_register_wait(mst_wait *wait);

/* Takes a wait that may be unresolved off its list. Lock held. */
void mst_queue_unregister_wait(mst_wait *wait);

/* Completes the front command buffer, which was executed and retired; `helping`: by a thread in mst_queue_wait.
 * Lock held. */
void mst_queue_publish(mst_queue *queue, bool helping);

/* The end of a host queue: what waits for values that were not signalled goes on, with a failure. Nothing for others, and
 * the second time. Lock held. */
void mst_queue_end_promises(mst_queue *queue);

#endif
