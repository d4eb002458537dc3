/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_DEVICE_H
#define MST_METAL_DEVICE_H

#import <Metal/Metal.h>
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../common/object.h"
#include "completions.h"
#include "mst.h"

struct mst_kernels;

struct mst_device {
  uint32_t tag;
  atomic_uint references; /* the caller's handle, one for each object of the device, one for each running handler */

  /* Constant once open. */
  id<MTLDevice> metal;
  MPSGraphDevice *graph_device;
  uint32_t flags;       /* enum mst_device_flags */
  uint64_t limit_bytes; /* beyond it, allocations fail */
  uint64_t max_buffer_bytes;

  /* Memory of the buffers. */
  atomic_uint_least64_t allocated_bytes;
  atomic_uint_least64_t buffer_count;

  /* See mst_device_counter_facts. */
  atomic_uint_least64_t matmuls_by_graph;
  atomic_uint_least64_t matmuls_by_ndarray;
  atomic_uint_least64_t layer_norms;
  atomic_uint_least64_t early_commits;

  _Atomic(struct mst_kernels *) kernels; /* made at first use: kernels.m */
  pthread_mutex_t instances_lock;        /* executable.m */

  /* The timelines: queue.m. Guards everything below and what the other headers say it guards. Nothing of Metal is
   * called while it is held, but for retain. */
  pthread_mutex_t lock;
  pthread_cond_t idle; /* for mst_device_close */
  atomic_bool closed;  /* set under the lock */
  mst_queue *queues;
  uint64_t unfinished; /* command buffers that Metal still has, in full or in part */
  uint32_t handlers;   /* completion handlers, and ends and signals of host queues, that run just now */
  mst_completions completions;
};

static inline void mst_lock(mst_device *device) {
  pthread_mutex_lock(&device->lock);
}

static inline void mst_unlock(mst_device *device) {
  pthread_mutex_unlock(&device->lock);
}

/* Lets mst_device_close go on if nothing of the device is at work any more. Lock held. */
static inline void mst_device_consider_idle(mst_device *device) {
  if (device->unfinished == 0 && device->handlers == 0 && device->completions.draining == 0) {
    pthread_cond_broadcast(&device->idle);
  }
}

#endif
