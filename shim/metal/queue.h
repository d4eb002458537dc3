/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_QUEUE_H
#define MST_METAL_QUEUE_H

#import <Metal/Metal.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands.h"
#include "device.h"
#include "mst.h"

struct mst_instance;

/* The bound at which -commandBuffer would block. Our own bound is max_in_flight values; a value has one root buffer,
 * but MPSGraph may add some. mst_commands_begin refuses at half of this, so that one encode can add as many again. */
enum { MST_MOST_ROOTS = 1024 };

/* See queue.m. */
struct mst_queue {
  uint32_t tag;
  uint32_t max_in_flight; /* 0: a host queue */
  uint64_t id;
  mst_device *device;
  id<MTLCommandQueue> metal; /* nil: a host queue */
  id<MTLSharedEvent> event;  /* the timeline, as other queues of the device see it on the GPU */

  /* Timeline. */
  atomic_uint_least64_t committed;
  atomic_uint_least64_t completed;
  atomic_uint_least64_t failed;
  atomic_uint roots; /* Metal's command buffers that have a handler and are not done */

  /* The encoding side: serialised by the caller. */
  mst_commands *open;          /* NULL: none */
  MSTCommandBuffer *continued; /* of the last commit with MST_COMMIT_CONTINUE; its root is empty */

  /* Guarded by the device's lock. */
  mst_queue *previous; /* device->queues */
  mst_queue *next;
  mst_commands *first; /* committed and not published, in the order of their values */
  mst_commands *last;
  uint32_t orphans;  /* discarded command buffers of which Metal still runs a part */
  mst_wait *waits;   /* unresolved waits of other queues for values of this one */
  mst_cause failure; /* where the failure at `failed` began */
  uint32_t visitors; /* threads inside mst_queue_wait or mst_queue_destroy */
  pthread_cond_t changed;
  bool ended; /* a host queue that is signalled no more */
  mst_queue *next_to_publish;
  bool listed_to_publish;

  struct mst_instance *instances; /* guarded by device->instances_lock: executable.m */
};

static inline bool mst_queue_is_host(const mst_queue *queue) {
  return queue->max_in_flight == 0;
}

static inline uint64_t mst_queue_completed(mst_queue *queue) {
  return atomic_load_explicit(&queue->completed, memory_order_acquire);
}

/* What a wait for `value`, which is completed, learns of its queue. Lock held. */
mst_cause mst_queue_failure_for(const mst_queue *awaited, uint64_t value);

/* Completes what can be completed, beginning with `queue`; chains what was completed into `published`, for
 * mst_commands_end. Lock held. */
void mst_queue_publish(mst_queue *queue, mst_commands **published);

/* Signals a value by hand, unless the event is further already. Lock not held. */
void mst_queue_raise(id<MTLSharedEvent> event, uint64_t value);

/* The end of every host queue of a device that is marked closed: what waits for values that were not signalled goes on,
 * with a failure. Lock not held. */
void mst_queue_end_all_promises(mst_device *device);

#endif
