/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <sched.h>
#endif

static const uint64_t SECOND = 1000000000;

uint64_t mst_now(void) {
#if defined(__APPLE__)
  return clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
#else
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
#endif
}

uint64_t mst_deadline(int64_t duration_ns) {
  if (duration_ns < 0) {
    return MST_NEVER;
  }
  uint64_t now = mst_now();
  return (uint64_t)duration_ns > MST_NEVER - now ? MST_NEVER : now + (uint64_t)duration_ns;
}

#if !defined(__APPLE__)
/* The number that a control file holds; 0 if there is none ("max", no such file). */
static uint64_t read_number(const char *path) {
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return 0;
  }
  unsigned long long number = 0;
  int fields = fscanf(file, "%llu", &number);
  fclose(file);
  return fields == 1 ? number : 0;
}
#endif

uint32_t mst_cpu_count(void) {
#if defined(__APPLE__)
  int count = 0;
  size_t size = sizeof(count);
  if (sysctlbyname("hw.activecpu", &count, &size, NULL, 0) != 0 || count < 1) {
    return 1;
  }
  return (uint32_t)count;
#else
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  cpu_set_t affinity;
  if (sched_getaffinity(0, sizeof(affinity), &affinity) == 0) {
    count = CPU_COUNT(&affinity);
  }
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
  if (file != NULL) {
    unsigned long long quota = 0;
    unsigned long long period = 0;
    if (fscanf(file, "%llu %llu", &quota, &period) == 2 && period > 0) {
      unsigned long long share = (quota + period - 1) / period;
      if (share > 0 && share < (unsigned long long)count) {
        count = (long)share;
      }
    }
    fclose(file);
  }
  return count < 1 ? 1 : (uint32_t)count;
#endif
}

uint64_t mst_physical_memory(void) {
#if defined(__APPLE__)
  uint64_t bytes = 0;
  size_t size = sizeof(bytes);
  if (sysctlbyname("hw.memsize", &bytes, &size, NULL, 0) != 0) {
    return SIZE_MAX / 2;
  }
  return bytes;
#else
  long pages = sysconf(_SC_PHYS_PAGES);
  long page = sysconf(_SC_PAGE_SIZE);
  uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : SIZE_MAX / 2;
  const char *limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
  for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
    uint64_t limit = read_number(limits[i]);
    if (limit > 0 && limit < bytes) {
      bytes = limit;
    }
  }
  return bytes;
#endif
}

void mst_cpu_name(char *out, size_t capacity) {
  snprintf(out, capacity, "CPU");
#if defined(__APPLE__)
  size_t size = capacity;
  if (sysctlbyname("machdep.cpu.brand_string", out, &size, NULL, 0) != 0) {
    snprintf(out, capacity, "CPU");
  }
  out[capacity - 1] = '\0';
#else
  FILE *file = fopen("/proc/cpuinfo", "re");
  if (file == NULL) {
    return;
  }
  char line[256];
  while (fgets(line, sizeof(line), file) != NULL) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
      size_t length = strcspn(colon + 2, "\n");
      snprintf(out, capacity, "%.*s", (int)length, colon + 2);
      break;
    }
  }
  fclose(file);
#endif
}

const char *mst_cpu_architecture(void) {
#if defined(__x86_64__)
  return "x86-64";
#elif defined(__aarch64__)
  return "arm64";
#else
  return "unknown";
#endif
}

bool mst_parker_init(mst_parker *parker) {
  parker->token = false;
  parker->next_unparked = NULL;
  if (pthread_mutex_init(&parker->mutex, NULL) != 0) {
    return false;
  }
  pthread_condattr_t attributes;
  bool made = pthread_condattr_init(&attributes) == 0;
  if (made) {
#if !defined(__APPLE__)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    made = pthread_cond_init(&parker->condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
  }
  if (!made) {
    pthread_mutex_destroy(&parker->mutex);
  }
  return made;
}

void mst_parker_destroy(mst_parker *parker) {
  pthread_cond_destroy(&parker->condition);
  pthread_mutex_destroy(&parker->mutex);
}

/* Waits for a signal until the deadline; false once it has passed. */
static bool wait_for_signal(mst_parker *parker, uint64_t deadline) {
  if (deadline == MST_NEVER) {
    pthread_cond_wait(&parker->condition, &parker->mutex);
    return true;
  }
#if defined(__APPLE__)
  uint64_t now = mst_now();
  if (now >= deadline) {
    return false;
  }
  struct timespec rest = {(time_t)((deadline - now) / SECOND), (long)((deadline - now) % SECOND)};
  return pthread_cond_timedwait_relative_np(&parker->condition, &parker->mutex, &rest) != ETIMEDOUT;
#else
  struct timespec until = {(time_t)(deadline / SECOND), (long)(deadline % SECOND)};
  return pthread_cond_timedwait(&parker->condition, &parker->mutex, &until) != ETIMEDOUT;
#endif
}

bool mst_park(mst_parker *parker, uint64_t deadline) {
  pthread_mutex_lock(&parker->mutex);
  while (!parker->token && wait_for_signal(parker, deadline)) {
  }
  bool taken = parker->token;
  parker->token = false;
  pthread_mutex_unlock(&parker->mutex);
  return taken;
}

void mst_unpark(mst_parker *parker) {
  /* Signalled with the mutex held: once the parked thread has the token, the parker may be gone. */
  pthread_mutex_lock(&parker->mutex);
  parker->token = true;
  pthread_cond_signal(&parker->condition);
  pthread_mutex_unlock(&parker->mutex);
}
