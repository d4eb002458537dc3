/*
 * Simulated Metal: what Darwin has and Linux lacks. Included before every file of the Metal shim.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_DARWIN_H
#define SIM_DARWIN_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#import <Foundation/Foundation.h>

/* GCC's runtime casts its nil to the type `id`, which a parameter of that name hides. */
#undef nil
#define nil NULL

int pthread_main_np(void);
int pthread_cond_timedwait_relative_np(pthread_cond_t *condition, pthread_mutex_t *lock, const struct timespec *rest);
size_t strlcpy(char *target, const char *source, size_t size);
size_t strlcat(char *target, const char *source, size_t size);

#define API_AVAILABLE(...)
#define CLOCK_UPTIME_RAW CLOCK_MONOTONIC

static inline uint64_t clock_gettime_nsec_np(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * Off a Mac clang takes every `@available(macOS N, *)` for true. Here the running system's version is a setting
 * (MST_SIM_MACOS, 15.0 by default), so that both branches run: `@available(...)` becomes `@"" && sim_available("...")`.
 */
int sim_available(const char *platforms);
#define available(...) "" && sim_available(#__VA_ARGS__)

#endif /* SIM_DARWIN_H */
