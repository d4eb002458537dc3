/*
 * Simulated Metal: libdispatch. A serial queue is a thread, started with its first work and ended with the queue.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <Block.h>
#include <dispatch/dispatch.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

/* ------------------------------------------------------------------------------------------------- queues --------- */

struct item {
  struct item *next;
  dispatch_block_t block;
};

/* What a queue and its thread share: the thread may outlive the queue by its last work. */
struct lane {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct item *first;
  struct item **last;
  bool started;
  bool closing;
};

@interface SimDispatchQueue : SimObject {
 @public
  struct lane *_lane;
}
@end

static void *run_lane(void *argument) {
  struct lane *lane = argument;
  pthread_mutex_lock(&lane->lock);
  for (;;) {
    struct item *item = lane->first;
    if (item != NULL) {
      lane->first = item->next;
      if (lane->first == NULL)
        lane->last = &lane->first;
      pthread_mutex_unlock(&lane->lock);
      item->block();
      Block_release(item->block);
      free(item);
      sim_busy(-1);
      pthread_mutex_lock(&lane->lock);
    } else if (lane->closing) {
      break;
    } else {
      pthread_cond_wait(&lane->changed, &lane->lock);
    }
  }
  pthread_mutex_unlock(&lane->lock);
  pthread_cond_destroy(&lane->changed);
  pthread_mutex_destroy(&lane->lock);
  free(lane);
  return NULL;
}

@implementation SimDispatchQueue

- (instancetype)init {
  self = [super init];
  if (self != nil) {
    _lane = calloc(1, sizeof *_lane);
    if (_lane == NULL)
      sim_stop("no memory for a dispatch queue");
    pthread_mutex_init(&_lane->lock, NULL);
    pthread_cond_init(&_lane->changed, NULL);
    _lane->last = &_lane->first;
  }
  return self;
}

- (void)dealloc {
  pthread_mutex_lock(&_lane->lock);
  _lane->closing = true;
  bool started = _lane->started;
  if (started)
    sim_threads_ending(1);
  pthread_cond_signal(&_lane->changed);
  pthread_mutex_unlock(&_lane->lock);
  if (!started)
    run_lane(_lane);
  [super dealloc];
}

@end

dispatch_queue_attr_t dispatch_queue_attr_make_with_qos_class(dispatch_queue_attr_t attr, dispatch_qos_class_t qos,
                                                              int relative_priority) {
  (void)qos;
  (void)relative_priority;
  return attr;
}

dispatch_queue_t dispatch_queue_create(const char *label, dispatch_queue_attr_t attr) {
  (void)label;
  (void)attr;
  return [[SimDispatchQueue alloc] init];
}

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static SimDispatchQueue *global_queue;

static void make_global_queue(void) {
  global_queue = [[SimDispatchQueue alloc] init];
  sim_count_object([SimDispatchQueue class], -1); /* lives as long as the process */
}

dispatch_queue_t dispatch_get_global_queue(intptr_t identifier, uintptr_t flags) {
  (void)identifier;
  (void)flags;
  pthread_once(&global_once, make_global_queue);
  return global_queue;
}

void dispatch_async(dispatch_queue_t queue, dispatch_block_t block) {
  struct lane *lane = ((SimDispatchQueue *)queue)->_lane;
  struct item *item = calloc(1, sizeof *item);
  if (item == NULL)
    sim_stop("no memory for work of a dispatch queue");
  item->block = Block_copy(block);
  sim_busy(1);
  pthread_mutex_lock(&lane->lock);
  *lane->last = item;
  lane->last = &item->next;
  if (!lane->started) {
    lane->started = true;
    sim_start_thread("sim dispatch", run_lane, lane);
  }
  pthread_cond_signal(&lane->changed);
  pthread_mutex_unlock(&lane->lock);
}

void dispatch_async_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
  dispatch_async(queue, ^{
    work(context);
  });
}

void dispatch_sync(dispatch_queue_t queue, dispatch_block_t block) {
  dispatch_semaphore_t done = dispatch_semaphore_create(0);
  dispatch_async(queue, ^{
    block();
    dispatch_semaphore_signal(done);
  });
  dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
  [done release];
}

void dispatch_sync_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
  dispatch_sync(queue, ^{
    work(context);
  });
}

/* ------------------------------------------------------------------------------------------------- once ----------- */

enum { ONCE_NEVER = 0, ONCE_RUNNING = 1, ONCE_DONE = 2 };
static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t once_done = PTHREAD_COND_INITIALIZER;

void dispatch_once_f(dispatch_once_t *predicate, void *context, dispatch_function_t function) {
  if (__atomic_load_n(predicate, __ATOMIC_ACQUIRE) == ONCE_DONE)
    return;
  pthread_mutex_lock(&once_lock);
  if (*predicate == ONCE_NEVER) {
    *predicate = ONCE_RUNNING;
    pthread_mutex_unlock(&once_lock);
    function(context);
    pthread_mutex_lock(&once_lock);
    __atomic_store_n(predicate, ONCE_DONE, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&once_done);
  }
  while (*predicate != ONCE_DONE)
    pthread_cond_wait(&once_done, &once_lock);
  pthread_mutex_unlock(&once_lock);
}

static void call_block(void *block) {
  ((dispatch_block_t)block)();
}

void dispatch_once(dispatch_once_t *predicate, dispatch_block_t block) {
  dispatch_once_f(predicate, (void *)block, call_block);
}

/* ------------------------------------------------------------------------------------------------- semaphores ----- */

@interface SimDispatchSemaphore : SimObject {
 @public
  pthread_mutex_t _lock;
  pthread_cond_t _raised;
  intptr_t _value;
}
@end

@implementation SimDispatchSemaphore

- (instancetype)initWithValue:(intptr_t)value {
  self = [super init];
  if (self != nil) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&_lock, NULL);
    pthread_cond_init(&_raised, &monotonic);
    pthread_condattr_destroy(&monotonic);
    _value = value;
  }
  return self;
}

- (void)dealloc {
  pthread_cond_destroy(&_raised);
  pthread_mutex_destroy(&_lock);
  [super dealloc];
}

@end

dispatch_semaphore_t dispatch_semaphore_create(intptr_t value) {
  return [[SimDispatchSemaphore alloc] initWithValue:value];
}

intptr_t dispatch_semaphore_wait(dispatch_semaphore_t object, dispatch_time_t timeout) {
  SimDispatchSemaphore *semaphore = (SimDispatchSemaphore *)object;
  struct timespec until = {(time_t)(timeout / 1000000000u), (long)(timeout % 1000000000u)};
  int failed = 0;
  pthread_mutex_lock(&semaphore->_lock);
  while (semaphore->_value == 0 && failed == 0) {
    if (timeout == DISPATCH_TIME_FOREVER)
      pthread_cond_wait(&semaphore->_raised, &semaphore->_lock);
    else
      failed = pthread_cond_timedwait(&semaphore->_raised, &semaphore->_lock, &until);
  }
  bool taken = semaphore->_value > 0;
  if (taken)
    semaphore->_value--;
  pthread_mutex_unlock(&semaphore->_lock);
  return taken ? 0 : ETIMEDOUT;
}

intptr_t dispatch_semaphore_signal(dispatch_semaphore_t object) {
  SimDispatchSemaphore *semaphore = (SimDispatchSemaphore *)object;
  pthread_mutex_lock(&semaphore->_lock);
  semaphore->_value++;
  pthread_cond_signal(&semaphore->_raised);
  pthread_mutex_unlock(&semaphore->_lock);
  return 0;
}

dispatch_time_t dispatch_time(dispatch_time_t when, int64_t delta) {
  if (when == DISPATCH_TIME_FOREVER)
    return when;
  uint64_t start = when == DISPATCH_TIME_NOW ? sim_now_ns() : when;
  return start + (uint64_t)delta;
}

void dispatch_retain(dispatch_object_t object) {
  [object retain];
}

void dispatch_release(dispatch_object_t object) {
  [object release];
}
