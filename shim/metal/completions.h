/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_COMPLETIONS_H
#define MST_METAL_COMPLETIONS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mst.h"

/* See completions.m. All fields are guarded by the device's lock. */
typedef struct mst_completions {
  mst_completion *records; /* ring */
  size_t capacity;         /* 0 or a power of two */
  size_t first;
  size_t count;
  size_t reserved;
  pthread_cond_t arrived;
  uint32_t draining; /* threads inside mst_device_next_completions */
  uint32_t wakes;    /* calls that must return although there may be nothing */
} mst_completions;

/* Makes room for one more record, so that mst_completions_push cannot fail. False: out of memory. Lock held. */
bool mst_completions_reserve(mst_completions *completions);

/* Gives back room that is not needed. Lock held. */
void mst_completions_unreserve(mst_completions *completions);

/* Appends a record for which room was reserved. Lock held. */
void mst_completions_push(mst_completions *completions, const mst_completion *record);

#endif
