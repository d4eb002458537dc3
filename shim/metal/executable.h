/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_EXECUTABLE_H
#define MST_METAL_EXECUTABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../common/graph.h"
#include "mst.h"

struct mst_instance;

/* See executable.m. Immutable but for the count and the instances. */
struct mst_executable {
  uint32_t tag;
  atomic_uint references; /* the caller's handle and the command buffers that use it */
  mst_device *device;
  mst_graph *graph;   /* a copy of what was compiled */
  int32_t *arguments; /* nodes: inputs in order, then outputs */
  uint32_t input_count;
  uint32_t argument_count;
  uint32_t matmul_count;
  int32_t sole_product; /* the node, if the graph is one matrix product and nothing else; else -1 */

  /* Guarded by device->instances_lock. */
  struct mst_instance *instances;
};

void mst_executable_retain(mst_executable *executable);
void mst_executable_release(mst_executable *executable);

/* Ends what was instantiated for a queue that is about to end. */
void mst_executable_forget_queue(mst_queue *queue);

#endif
