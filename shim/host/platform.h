/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_PLATFORM_H
#define MST_HOST_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What differs between operating systems, and nothing else. */

/* A moment that never comes. */
#define MST_NEVER UINT64_MAX

/* Now, in nanoseconds of the clock that mst.h names. */
uint64_t mst_now(void);

/* now + duration; MST_NEVER for a negative duration or on overflow. */
uint64_t mst_deadline(int64_t duration_ns);

/* CPUs this process may use at once, by affinity and control group; at least 1. */
uint32_t mst_cpu_count(void);

/* Physical memory, or the control group's share of it if that is less. */
uint64_t mst_physical_memory(void);

/* "AMD EPYC 9B14", "Apple M4"; "CPU" if the system does not tell. */
void mst_cpu_name(char *out, size_t capacity);

/* "x86-64", "arm64", ... */
const char *mst_cpu_architecture(void);

/* Blocks one thread until another gives it a token. Whoever has taken a parker off the list in which it was found must
 * unpark it exactly once, and a thread whose parker was taken off must not go on before it has that token. Under that
 * rule a parker may live on the stack of the thread that parks, and may be unparked after the list's lock is released. */
typedef struct mst_parker {
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  bool token;
  struct mst_parker *next_unparked; /* chain of device->unparked, see scheduler.c */
} mst_parker;

bool mst_parker_init(mst_parker *parker);
void mst_parker_destroy(mst_parker *parker);

/* Takes the token, waiting for it until the deadline at most. False: the deadline passed without a token. */
bool mst_park(mst_parker *parker, uint64_t deadline);
void mst_unpark(mst_parker *parker);

#endif
