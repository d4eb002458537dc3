/*
 * Simulated Metal: command queues and their two threads.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: a command buffer is in `pending` from its enqueue until the GPU thread takes it, in `handling` from its
 * execution until its handlers have returned, and is retained by the list it is in. `uncompleted` counts the command
 * buffers from their creation until their execution has ended, or until they are dropped without a commit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metal.h"

struct entry {
  struct entry *next;
  AGXSimFamilyCommandBuffer *buffer;
};

struct list {
  struct entry *first;
  struct entry **last;
};

struct sim_engine {
  _Atomic(int) references; /* the queue's, and one of each thread */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct list pending;
  struct list handling;
  NSUInteger capacity;
  NSUInteger uncompleted;
  bool started;
  bool held;       /* starts nothing but `steps` more */
  uint32_t steps;
  bool closing;   /* the queue is gone: the GPU thread ends when nothing is pending */
  bool gpu_ended; /* the completion thread ends when nothing is left to handle */
  struct sim_run run;
};

static void list_append(struct list *list, AGXSimFamilyCommandBuffer *buffer) {
  struct entry *entry = malloc(sizeof *entry);
  if (entry == NULL)
    sim_stop("no memory for a command buffer");
  entry->next = NULL;
  entry->buffer = [buffer retain];
  *list->last = entry;
  list->last = &entry->next;
}

/* The first buffer, with the list's reference to it. */
static AGXSimFamilyCommandBuffer *list_take(struct list *list) {
  struct entry *entry = list->first;
  AGXSimFamilyCommandBuffer *buffer = entry->buffer;
  list->first = entry->next;
  if (list->first == NULL)
    list->last = &list->first;
  free(entry);
  return buffer;
}

static void engine_release(struct sim_engine *engine) {
  if (atomic_fetch_sub(&engine->references, 1) > 1)
    return;
  sim_clock_release(engine->run.queue);
  pthread_cond_destroy(&engine->changed);
  pthread_mutex_destroy(&engine->lock);
  free(engine);
}

static bool first_is_committed(struct sim_engine *engine) {
  return engine->pending.first != NULL && engine->pending.first->buffer.status == MTLCommandBufferStatusCommitted;
}

/* Whether the GPU thread may take the first command buffer; counts a step. */
static bool may_start(struct sim_engine *engine) {
  if (!first_is_committed(engine) || (engine->held && engine->steps == 0))
    return false;
  if (engine->held)
    engine->steps--;
  return true;
}

static void *run_gpu(void *argument) {
  struct sim_engine *engine = argument;
  pthread_mutex_lock(&engine->lock);
  for (;;) {
    if (may_start(engine)) {
      AGXSimFamilyCommandBuffer *buffer = list_take(&engine->pending);
      pthread_mutex_unlock(&engine->lock);
      [buffer callScheduledHandlers];
      sim_wait_while_held();
      [buffer runOn:&engine->run];
      pthread_mutex_lock(&engine->lock);
      engine->uncompleted--;
      list_append(&engine->handling, buffer);
      [buffer release];
      pthread_cond_broadcast(&engine->changed);
    } else if (engine->closing && engine->pending.first == NULL) {
      break;
    } else {
      pthread_cond_wait(&engine->changed, &engine->lock);
    }
  }
  engine->gpu_ended = true;
  pthread_cond_broadcast(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
  engine_release(engine);
  return NULL;
}

static void *run_completions(void *argument) {
  struct sim_engine *engine = argument;
  pthread_mutex_lock(&engine->lock);
  for (;;) {
    if (engine->handling.first != NULL) {
      AGXSimFamilyCommandBuffer *buffer = list_take(&engine->handling);
      pthread_mutex_unlock(&engine->lock);
      [buffer callCompletedHandlers];
      [buffer release]; /* perhaps the last reference to the queue, which then closes */
      sim_busy(-1);
      pthread_mutex_lock(&engine->lock);
    } else if (engine->gpu_ended) {
      break;
    } else {
      pthread_cond_wait(&engine->changed, &engine->lock);
    }
  }
  pthread_mutex_unlock(&engine->lock);
  engine_release(engine);
  return NULL;
}

void sim_engine_claim(struct sim_engine *engine) {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += sim_switches.hang_seconds;
  pthread_mutex_lock(&engine->lock);
  while (engine->uncompleted >= engine->capacity) {
    if (pthread_cond_timedwait(&engine->changed, &engine->lock, &end) == ETIMEDOUT)
      sim_stop("-commandBuffer blocks: the queue has %llu uncompleted command buffers and none completes",
               (unsigned long long)engine->uncompleted);
  }
  engine->uncompleted++;
  pthread_mutex_unlock(&engine->lock);
}

void sim_engine_unclaim(struct sim_engine *engine) {
  pthread_mutex_lock(&engine->lock);
  engine->uncompleted--;
  pthread_cond_broadcast(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
}

void sim_engine_enqueue(struct sim_engine *engine, AGXSimFamilyCommandBuffer *buffer) {
  sim_busy(1);
  pthread_mutex_lock(&engine->lock);
  list_append(&engine->pending, buffer);
  if (!engine->started) {
    engine->started = true;
    atomic_fetch_add(&engine->references, 2);
    sim_start_thread("sim gpu", run_gpu, engine);
    sim_start_thread("sim completion", run_completions, engine);
  }
  pthread_mutex_unlock(&engine->lock);
}

void sim_engine_committed(struct sim_engine *engine) {
  pthread_mutex_lock(&engine->lock);
  pthread_cond_broadcast(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
}

void sim_queue_hold(id<MTLCommandQueue> queue, bool held, uint32_t steps) {
  struct sim_engine *engine = ((SimQueue *)queue)->_engine;
  pthread_mutex_lock(&engine->lock);
  engine->held = held;
  engine->steps = steps;
  pthread_cond_broadcast(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
}

@implementation SimQueue

- (instancetype)initWithDevice:(SimDevice *)device maxCommandBufferCount:(NSUInteger)count {
  self = [super init];
  if (count == 0)
    sim_stop("a command queue for 0 command buffers");
  int index = sim_clock_claim();
  if (index < 0) { /* a Mac runs out of queues, too */
    [self release];
    return nil;
  }
  _device = [device retain];
  _engine = calloc(1, sizeof *_engine);
  if (_engine == NULL)
    sim_stop("no memory for a command queue");
  _engine->references = 1;
  _engine->capacity = count;
  _engine->pending.last = &_engine->pending.first;
  _engine->handling.last = &_engine->handling.first;
  _engine->run.queue = index;
  sim_clock_read_seen(&_engine->run.clock);
  pthread_mutex_init(&_engine->lock, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&_engine->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return self;
}

- (void)dealloc {
  if (_engine != NULL) {
    pthread_mutex_lock(&_engine->lock);
    _engine->closing = true;
    if (_engine->started)
      sim_threads_ending(2);
    pthread_cond_broadcast(&_engine->changed);
    pthread_mutex_unlock(&_engine->lock);
    engine_release(_engine);
  }
  [_label release];
  [_device release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return _device;
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (id<MTLCommandBuffer>)commandBuffer {
  return [[[AGXSimFamilyCommandBuffer alloc] initWithQueue:self retained:true] autorelease];
}

- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  return [[[AGXSimFamilyCommandBuffer alloc] initWithQueue:self retained:false] autorelease];
}

- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor *)descriptor {
  return [[[AGXSimFamilyCommandBuffer alloc] initWithQueue:self retained:descriptor.retainedReferences] autorelease];
}

@end
