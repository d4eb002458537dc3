/*
 * Simulated Metal: threads, regions that admit few of them, and the order of their work.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <os/lock.h>

#include "darwin.h"
#include "mst_sim.h"
#include "sim.h"

uint64_t sim_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------------------------------------------- threads -------- */

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t threads_changed = PTHREAD_COND_INITIALIZER;
static int64_t busy;   /* work that was handed over and is not done */
static int64_t ending; /* threads that have been told to end, and are still at it */
static struct finished {
  struct finished *next;
  pthread_t thread;
} *finished; /* to be joined */

static void change(int64_t *count, int delta) {
  pthread_mutex_lock(&threads_lock);
  *count += delta;
  if (*count == 0)
    pthread_cond_broadcast(&threads_changed);
  pthread_mutex_unlock(&threads_lock);
}

void sim_busy(int delta) {
  change(&busy, delta);
}

void sim_threads_ending(int threads) {
  change(&ending, threads);
}

static void join_finished(void) {
  pthread_mutex_lock(&threads_lock);
  struct finished *list = finished;
  finished = NULL;
  pthread_mutex_unlock(&threads_lock);
  while (list != NULL) {
    struct finished *next = list->next;
    pthread_join(list->thread, NULL);
    free(list);
    list = next;
  }
}

void mst_sim_quiesce(void) {
  pthread_mutex_lock(&threads_lock);
  while (busy != 0 || ending != 0)
    pthread_cond_wait(&threads_changed, &threads_lock);
  pthread_mutex_unlock(&threads_lock);
  join_finished();
}

struct start {
  char name[16];
  void *(*body)(void *);
  void *argument;
};

static void *run_thread(void *argument) {
  struct start start = *(struct start *)argument;
  free(argument);
  pthread_setname_np(pthread_self(), start.name);
  start.body(start.argument);
  struct finished *self = malloc(sizeof *self);
  if (self == NULL)
    sim_stop("no memory for the end of a thread");
  self->thread = pthread_self();
  pthread_mutex_lock(&threads_lock);
  self->next = finished;
  finished = self;
  ending--;
  pthread_cond_broadcast(&threads_changed);
  pthread_mutex_unlock(&threads_lock);
  return NULL;
}

void sim_start_thread(const char *name, void *(*body)(void *), void *argument) {
  join_finished();
  struct start *start = malloc(sizeof *start);
  if (start == NULL)
    sim_stop("no memory for a thread");
  snprintf(start->name, sizeof start->name, "%s", name);
  start->body = body;
  start->argument = argument;
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_thread, start) != 0)
    sim_stop("a thread could not be started");
}

int pthread_main_np(void) {
  return getpid() == (pid_t)syscall(SYS_gettid);
}

/* ------------------------------------------------------------------------------------------------- regions -------- */

enum { LINGER_NS = 300 * 1000 };

bool sim_region_enter(struct sim_region *region, int64_t limit) {
  bool crowded = atomic_fetch_add(&region->inside, 1) + 1 > limit;
  if (limit == 0)
    return false;
  for (uint64_t end = sim_now_ns() + LINGER_NS; !crowded && sim_now_ns() < end; sched_yield())
    crowded = atomic_load(&region->inside) > limit;
  return crowded;
}

void sim_region_leave(struct sim_region *region) {
  atomic_fetch_sub(&region->inside, 1);
}

void sim_exclusive_enter(struct sim_exclusive *object, const char *what) {
  if (atomic_exchange(&object->inside, 1) != 0)
    sim_stop("two threads use %s at once", what);
}

void sim_exclusive_leave(struct sim_exclusive *object) {
  atomic_store(&object->inside, 0);
}

/* ------------------------------------------------------------------------------------------------- order ---------- */

static pthread_mutex_t clock_lock = PTHREAD_MUTEX_INITIALIZER;
static bool claimed[SIM_MAX_QUEUES];
static sim_clock seen;

void sim_clock_join(sim_clock *target, const sim_clock *source) {
  for (int i = 0; i < SIM_MAX_QUEUES; i++) {
    if (target->tick[i] < source->tick[i])
      target->tick[i] = source->tick[i];
  }
}

int sim_clock_claim(void) {
  int queue = -1;
  pthread_mutex_lock(&clock_lock);
  for (int i = 0; i < SIM_MAX_QUEUES && queue < 0; i++) {
    if (!claimed[i]) {
      claimed[i] = true;
      queue = i;
    }
  }
  pthread_mutex_unlock(&clock_lock);
  return queue;
}

void sim_clock_release(int queue) {
  pthread_mutex_lock(&clock_lock);
  claimed[queue] = false;
  pthread_mutex_unlock(&clock_lock);
}

void sim_clock_seen(const sim_clock *clock) {
  pthread_mutex_lock(&clock_lock);
  sim_clock_join(&seen, clock);
  pthread_mutex_unlock(&clock_lock);
}

void sim_clock_read_seen(sim_clock *target) {
  pthread_mutex_lock(&clock_lock);
  sim_clock_join(target, &seen);
  pthread_mutex_unlock(&clock_lock);
}

/* ------------------------------------------------------------------------------------------------- Darwin --------- */

static uint32_t own_id(void) {
  return (uint32_t)syscall(SYS_gettid);
}

bool os_unfair_lock_trylock(os_unfair_lock_t lock) {
  uint32_t nobody = 0;
  return __atomic_compare_exchange_n(&lock->_owner, &nobody, own_id(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void os_unfair_lock_lock(os_unfair_lock_t lock) {
  while (!os_unfair_lock_trylock(lock)) {
    uint32_t owner = __atomic_load_n(&lock->_owner, __ATOMIC_RELAXED);
    if (owner == own_id())
      sim_stop("an os_unfair_lock was locked twice by one thread");
    if (owner != 0)
      syscall(SYS_futex, &lock->_owner, FUTEX_WAIT_PRIVATE, owner, NULL, NULL, 0);
  }
}

void os_unfair_lock_unlock(os_unfair_lock_t lock) {
  os_unfair_lock_assert_owner(lock);
  __atomic_store_n(&lock->_owner, 0, __ATOMIC_RELEASE);
  syscall(SYS_futex, &lock->_owner, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void os_unfair_lock_assert_owner(const os_unfair_lock *lock) {
  if (__atomic_load_n(&lock->_owner, __ATOMIC_RELAXED) != own_id())
    sim_stop("an os_unfair_lock is not owned by this thread");
}

void os_unfair_lock_assert_not_owner(const os_unfair_lock *lock) {
  if (__atomic_load_n(&lock->_owner, __ATOMIC_RELAXED) == own_id())
    sim_stop("an os_unfair_lock is owned by this thread");
}

int pthread_cond_timedwait_relative_np(pthread_cond_t *condition, pthread_mutex_t *lock, const struct timespec *rest) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  int64_t nanoseconds = (int64_t)end.tv_nsec + rest->tv_nsec;
  end.tv_sec += rest->tv_sec + nanoseconds / 1000000000;
  end.tv_nsec = nanoseconds % 1000000000;
  return pthread_cond_timedwait(condition, lock, &end);
}

size_t strlcpy(char *target, const char *source, size_t size) {
  size_t length = strlen(source);
  if (size > 0) {
    size_t copied = length < size ? length : size - 1;
    memcpy(target, source, copied);
    target[copied] = '\0';
  }
  return length;
}

size_t strlcat(char *target, const char *source, size_t size) {
  size_t used = strnlen(target, size);
  return used + strlcpy(target + used, source, size - used);
}
