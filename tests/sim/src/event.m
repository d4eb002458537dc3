/*
 * Simulated Metal: shared events and their listeners.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <Block.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metal.h"

enum { KEPT_SIGNALS = 32 };

/* A value that was signalled, and what had happened before. */
struct sim_signal {
  uint64_t value;
  sim_clock clock;
};

struct sim_notification {
  struct sim_notification *next;
  uint64_t value;
  MTLSharedEventListener *listener;
  MTLSharedEventNotificationBlock block;
};

@implementation MTLSharedEventListener

- (instancetype)init {
  dispatch_queue_t queue = dispatch_queue_create("shared event listener", DISPATCH_QUEUE_SERIAL);
  self = [self initWithDispatchQueue:queue];
  dispatch_release(queue);
  return self;
}

- (instancetype)initWithDispatchQueue:(dispatch_queue_t)queue {
  self = [super init];
  if (queue == nil)
    sim_stop("a shared event listener needs a dispatch queue");
  if (self != nil)
    _dispatchQueue = [queue retain];
  return self;
}

- (void)dealloc {
  [_dispatchQueue release];
  [super dealloc];
}

- (dispatch_queue_t)dispatchQueue {
  return _dispatchQueue;
}

@end

@implementation SimSharedEvent

- (instancetype)initWithDevice:(SimDevice *)device {
  self = [super init];
  if (self != nil) {
    _device = [device retain];
    pthread_mutex_init(&_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&_raised, &monotonic);
    pthread_condattr_destroy(&monotonic);
    _signals = calloc(KEPT_SIGNALS, sizeof *_signals);
    if (_signals == NULL)
      sim_stop("no memory for an event");
  }
  return self;
}

- (void)dealloc {
  while (_notifications != NULL) {
    struct sim_notification *next = _notifications->next;
    [_notifications->listener release];
    Block_release(_notifications->block);
    free(_notifications);
    _notifications = next;
  }
  pthread_cond_destroy(&_raised);
  pthread_mutex_destroy(&_lock);
  free(_signals);
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

- (uint64_t)signaledValue {
  pthread_mutex_lock(&_lock);
  uint64_t value = _value;
  pthread_mutex_unlock(&_lock);
  return value;
}

/* By the CPU: after all that the CPU has seen. */
- (void)setSignaledValue:(uint64_t)value {
  sim_clock clock = {{0}};
  sim_clock_read_seen(&clock);
  [self signal:value clock:&clock];
}

/* Hands over the notifications that are due. The lock is held. */
- (void)notify {
  for (struct sim_notification **link = &_notifications; *link != NULL;) {
    struct sim_notification *due = *link;
    if (due->value > _value) {
      link = &due->next;
      continue;
    }
    *link = due->next;
    MTLSharedEventNotificationBlock block = due->block;
    uint64_t value = _value;
    dispatch_async(due->listener.dispatchQueue, ^{
      block(self, value);
    });
    Block_release(block);
    [due->listener release];
    free(due);
  }
}

- (void)signal:(uint64_t)value clock:(const sim_clock *)clock {
  pthread_mutex_lock(&_lock);
  if (value > _value) { /* never back: a smaller value is ignored */
    _value = value;
    memmove(_signals, _signals + 1, (KEPT_SIGNALS - 1) * sizeof *_signals);
    _signals[KEPT_SIGNALS - 1].value = value;
    _signals[KEPT_SIGNALS - 1].clock = *clock;
    [self notify];
    pthread_cond_broadcast(&_raised);
  }
  pthread_mutex_unlock(&_lock);
}

- (bool)waitFor:(uint64_t)value until:(const struct timespec *)end {
  int failed = 0;
  while (_value < value && failed == 0) {
    if (end == NULL)
      pthread_cond_wait(&_raised, &_lock);
    else
      failed = pthread_cond_timedwait(&_raised, &_lock, end);
  }
  return _value >= value;
}

/* By a GPU thread. */
- (void)wait:(uint64_t)value clock:(sim_clock *)clock {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += sim_switches.hang_seconds;
  pthread_mutex_lock(&_lock);
  if (![self waitFor:value until:&end])
    sim_stop("a command buffer waits for value %llu of event \"%s\", which stays at %llu: nobody signals it",
             (unsigned long long)value, sim_text(_label), (unsigned long long)_value);
  int i = 0;
  while (i < KEPT_SIGNALS - 1 && _signals[i].value < value)
    i++;
  if (value > 0)
    sim_clock_join(clock, &_signals[i].clock);
  pthread_mutex_unlock(&_lock);
}

- (BOOL)waitUntilSignaledValue:(uint64_t)value timeoutMS:(uint64_t)milliseconds {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  if (milliseconds < (uint64_t)INT32_MAX) {
    uint64_t nanoseconds = (uint64_t)end.tv_nsec + milliseconds % 1000 * 1000000;
    end.tv_sec += (time_t)(milliseconds / 1000 + nanoseconds / 1000000000);
    end.tv_nsec = (long)(nanoseconds % 1000000000);
  }
  pthread_mutex_lock(&_lock);
  bool reached = [self waitFor:value until:milliseconds < (uint64_t)INT32_MAX ? &end : NULL];
  pthread_mutex_unlock(&_lock);
  return reached;
}

- (void)notifyListener:(MTLSharedEventListener *)listener
               atValue:(uint64_t)value
                 block:(MTLSharedEventNotificationBlock)block {
  if (listener == nil || block == nil)
    sim_stop("notifyListener: without listener or block");
  struct sim_notification *notification = malloc(sizeof *notification);
  if (notification == NULL)
    sim_stop("no memory for a notification");
  notification->value = value;
  notification->listener = [listener retain];
  notification->block = Block_copy(block);
  pthread_mutex_lock(&_lock);
  notification->next = _notifications;
  _notifications = notification;
  [self notify];
  pthread_mutex_unlock(&_lock);
}

@end
