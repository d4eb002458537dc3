/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_DEVICE_H
#define MST_HOST_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../common/object.h"
#include "blas.h"
#include "completions.h"
#include "mst.h"
#include "scheduler.h"

struct mst_device {
  uint32_t tag;
  atomic_uint references; /* the caller's handle, and one for each object of the device */
  atomic_bool closed;     /* set under the scheduler's lock */
  atomic_bool lost;       /* every command buffer fails from now on */

  /* Constant once open. */
  mst_blas blas;
  uint64_t physical_bytes;
  uint64_t max_buffer_bytes;

  /* Memory of the buffers. */
  atomic_uint_least64_t allocated_bytes;
  atomic_uint_least64_t buffer_count;
  atomic_uint_least64_t limit_bytes;

  /* Operations encoded: see mst_device_counter_facts. */
  atomic_uint_least64_t matmuls;
  atomic_uint_least64_t layer_norms;

  mst_scheduler scheduler;
  mst_completions completions;
};

#endif
