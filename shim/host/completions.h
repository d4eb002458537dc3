/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_COMPLETIONS_H
#define MST_HOST_COMPLETIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mst.h"
#include "platform.h"

/* Where a failure began. */
typedef struct mst_cause {
  uint64_t queue_id;
  uint64_t value; /* 0: no failure */
} mst_cause;

/* A completion as it is kept: mst_completion without its text. */
typedef struct mst_completion_record {
  uint64_t queue_id;
  uint64_t value;
  uint64_t start_ns;
  uint64_t end_ns;
  mst_cause cause;
  const char *reason; /* NULL unless status is a failure other than MST_ERROR_DEPENDENCY */
  int32_t status;
  bool owns_reason; /* it was allocated, and goes with the record; else it is static text */
} mst_completion_record;

/* A thread in mst_device_next_completions. */
typedef struct mst_drainer {
  mst_parker parker;
  struct mst_drainer *next;
  bool queued;
} mst_drainer;

/* See completions.c. All fields are guarded by the scheduler's lock. */
typedef struct mst_completions {
  mst_completion_record *records; /* ring */
  size_t capacity;                /* 0 or a power of two */
  size_t first;
  size_t count;
  size_t reserved;
  mst_drainer *drainers; /* parked, in no order */
  uint32_t draining;     /* threads inside mst_device_next_completions */
  uint32_t wakes;        /* calls that must return although there may be nothing */
  bool unhurried;        /* there may be records of which no parked drainer was told */
} mst_completions;

/* Makes room for one more record, so that mst_completions_push cannot fail. False: out of memory. Lock held. */
bool mst_completions_reserve(mst_device *device);

/* Gives back room that is not needed. Lock held. */
void mst_completions_unreserve(mst_device *device);

/* Appends a record for which room was reserved. Unhurried: the drainer may hear of it a tick later. Lock held. */
void mst_completions_push(mst_device *device, const mst_completion_record *record, bool unhurried);

/* Tells a drainer of the records that it was not told of. Lock held. */
void mst_completions_tell(mst_device *device);

/* Frees the ring and what is left in it. */
void mst_completions_free(mst_device *device);

/* Sends every drainer home. Lock held; the device is marked closed. */
void mst_completions_close(mst_device *device);

#endif
