/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_PLATFORM_H
#define MST_METAL_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Clock and timed waits of macOS. */

/* A moment that never comes. */
#define MST_NEVER UINT64_MAX

/* Now, in nanoseconds of mach_absolute_time: the clock in which Metal tells when the GPU began and ended. */
static inline uint64_t mst_now(void) {
  return clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}

/* now + duration; MST_NEVER for a negative duration or on overflow. */
static inline uint64_t mst_deadline(int64_t duration_ns) {
  uint64_t now = mst_now();
  return duration_ns < 0 || (uint64_t)duration_ns > MST_NEVER - now ? MST_NEVER : now + (uint64_t)duration_ns;
}

/* Waits for a signal until the deadline, holding the lock before and after; false once the deadline has passed. macOS
 * cannot bind a condition to a clock; its relative wait counts in the clock of mst_now. */
static inline bool mst_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t deadline) {
  if (deadline == MST_NEVER) {
    pthread_cond_wait(condition, lock);
    return true;
  }
  uint64_t now = mst_now();
  if (now >= deadline) {
    return false;
  }
  struct timespec rest = {(time_t)((deadline - now) / 1000000000), (long)((deadline - now) % 1000000000)};
  pthread_cond_timedwait_relative_np(condition, lock, &rest);
  return true; /* whoever waits looks at its condition again, and then at the time */
}

#endif
