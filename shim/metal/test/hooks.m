/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The test hooks of mst_test.h for the Metal shim on a real Mac, so that the conformance suite decides order and
 * failure there, too. Linked with the shim's sources into a library for tests; the one that is shipped has none of it.
 *
 * The shim is not asked to help. The hooks replace methods of the driver's classes, as they stand behind the queue at
 * hand (under the debug layer those are its wrappers):
 *   hold         every command buffer that is made on a held queue begins with a wait for an event of the hook's own
 *   fail         the n-th command buffer to come says that it failed, whatever it did: first come those that were made on
 *                held queues, then those that are committed from then on
 * The memory limit is a field of the device.
 * What is replaced once stays, and is inert while nothing is ordered. */
#import <Metal/Metal.h>
#include <objc/runtime.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../device.h"
#include "../error.h"
#include "../queue.h"
#include "mst_test.h"

/* Guards everything here. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* -------------------------------------------------------------------------------------------- replaced methods ---- */

typedef struct original {
  Class class;
  SEL selector;
  IMP function;
} original;

static original originals[16];
static int original_count;

static IMP find_original(Class class, SEL selector) {
  for (; class != Nil; class = class_getSuperclass(class)) {
    for (int i = 0; i < original_count; i++) {
      if (originals[i].class == class && sel_isEqual(originals[i].selector, selector)) {
        return originals[i].function;
      }
    }
  }
  return NULL;
}

/* The method that this object would have had without the hooks. Lock not held. */
static IMP original_of(id object, SEL selector) {
  pthread_mutex_lock(&lock);
  IMP function = find_original(object_getClass(object), selector);
  pthread_mutex_unlock(&lock);
  if (function == NULL) {
    abort(); /* only classes in the table have our methods */
  }
  return function;
}

/* Replaces a method of the object's class, unless that is done. Lock held. */
static void replace(id object, SEL selector, IMP function) {
  Class class = object_getClass(object);
  Method method = class_getInstanceMethod(class, selector);
  if (method == NULL || method_getImplementation(method) == function || original_count == 16) {
    return;
  }
  originals[original_count++] = (original){class, selector, method_getImplementation(method)};
  class_replaceMethod(class, selector, function, method_getTypeEncoding(method));
}

/* --------------------------------------------------------------------------------------------------------- hold --- */

/* A queue that was held at least once. */
typedef struct gate {
  id<MTLCommandQueue> metal;
  id<MTLSharedEvent> event;
  uint64_t closed;      /* command buffers wait for this value; open while it is signalled */
  NSMutableArray *held; /* the command buffers that wait for it, oldest first */
  struct gate *next;
} gate;

static gate *gates;

static gate *find_gate(id<MTLCommandQueue> metal) {
  gate *found = gates;
  while (found != NULL && found->metal != metal) {
    found = found->next;
  }
  return found;
}

static bool is_closed(const gate *gate) {
  return gate != NULL && gate->event.signaledValue < gate->closed;
}

static id held_command_buffer(id self, SEL selector) {
  id<MTLCommandBuffer> (*function)(id, SEL) = (id<MTLCommandBuffer>(*)(id, SEL))original_of(self, selector);
  id<MTLCommandBuffer> buffer = function(self, selector);
  pthread_mutex_lock(&lock);
  gate *held = find_gate(self); /* gates stay for good */
  uint64_t closed = buffer != nil && is_closed(held) ? held->closed : 0;
  if (closed > 0) {
    [held->held addObject:buffer];
  }
  pthread_mutex_unlock(&lock);
  if (closed > 0) {
    /* Not under the lock: the buffer may ask itself for its status, which is a method of ours, too. */
    [buffer encodeWaitForEvent:held->event value:closed];
  }
  return buffer;
}

int32_t mst_test_hold(mst_queue *queue) {
  @autoreleasepool {
    if (!mst_is(queue, MST_TAG_QUEUE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
    }
    if (mst_queue_is_host(queue)) {
      return MST_OK; /* it runs nothing that could be held */
    }
    pthread_mutex_lock(&lock);
    replace(queue->metal, @selector(commandBuffer), (IMP)held_command_buffer);
    gate *held = find_gate(queue->metal);
    if (held == NULL) {
      held = calloc(1, sizeof(gate));
      held->metal = [queue->metal retain]; /* for good: another queue must not be taken for it */
      held->event = [queue->device->metal newSharedEvent];
      held->held = [[NSMutableArray alloc] init];
      held->next = gates;
      gates = held;
    }
    if (!is_closed(held)) {
      [held->held removeAllObjects];
      held->closed = held->event.signaledValue + 1;
    }
    pthread_mutex_unlock(&lock);
    return MST_OK;
  }
}

int32_t mst_test_release(mst_queue *queue) {
  @autoreleasepool {
    pthread_mutex_lock(&lock);
    gate *held = mst_is(queue, MST_TAG_QUEUE) ? find_gate(queue->metal) : NULL;
    bool closed = is_closed(held);
    if (closed) {
      held->event.signaledValue = held->closed;
    }
    pthread_mutex_unlock(&lock);
    return closed ? MST_OK : MST_FAIL(MST_ERROR_INVALID_STATE, "the queue is not held");
  }
}

int32_t mst_test_step(mst_queue *queue, uint32_t count) {
  (void)queue;
  (void)count;
  return MST_FAIL(MST_ERROR_UNSUPPORTED, "a GPU cannot be single-stepped");
}

/* --------------------------------------------------------------------------------------------------------- fail --- */

static uint32_t commits_to_failure; /* 0: none is ordered */
static NSError *ordered_error;
static NSMutableArray *failing; /* command buffers: kept, so that no other gets their addresses */

static bool is_failing(id buffer) {
  pthread_mutex_lock(&lock);
  bool found = failing != nil && [failing indexOfObjectIdenticalTo:buffer] != NSNotFound;
  pthread_mutex_unlock(&lock);
  return found;
}

static void counted_commit(id self, SEL selector) {
  void (*function)(id, SEL) = (void (*)(id, SEL))original_of(self, selector);
  pthread_mutex_lock(&lock);
  if (commits_to_failure > 0 && --commits_to_failure == 0) {
    [failing addObject:self];
  }
  pthread_mutex_unlock(&lock);
  function(self, selector);
}

static MTLCommandBufferStatus failing_status(id self, SEL selector) {
  MTLCommandBufferStatus (*function)(id, SEL) = (MTLCommandBufferStatus(*)(id, SEL))original_of(self, selector);
  MTLCommandBufferStatus status = function(self, selector);
  return status == MTLCommandBufferStatusCompleted && is_failing(self) ? MTLCommandBufferStatusError : status;
}

static NSError *failing_error(id self, SEL selector) {
  NSError *(*function)(id, SEL) = (NSError * (*)(id, SEL)) original_of(self, selector);
  return is_failing(self) ? ordered_error : function(self, selector);
}

/* Lets the n-th command buffer of held queues fail; gives back how many of n are still to come. Lock held. */
static uint32_t fail_held(uint32_t n) {
  for (const gate *each = gates; each != NULL && n > 0; each = each->next) {
    NSUInteger count = is_closed(each) ? each->held.count : 0;
    if (n <= count) {
      [failing addObject:[each->held objectAtIndex:n - 1]];
    }
    n -= n < count ? n : (uint32_t)count;
  }
  return n;
}

int32_t mst_test_fail(const char *function, uint32_t n, int32_t status) {
  @autoreleasepool {
    if (function == NULL || strcmp(function, "execute") != 0) {
      return MST_FAIL(MST_ERROR_UNSUPPORTED, "only command buffers can be made to fail");
    }
    id<MTLDevice> metal = [MTLCreateSystemDefaultDevice() autorelease];
    id<MTLCommandQueue> queue = [[metal newCommandQueue] autorelease];
    id<MTLCommandBuffer> buffer = [queue commandBuffer];
    if (buffer == nil) {
      return MST_FAIL(MST_ERROR_NO_DEVICE, "no device");
    }
    NSInteger code = status == MST_ERROR_OUT_OF_MEMORY ? MTLCommandBufferErrorOutOfMemory
                     : status == MST_ERROR_DEVICE_LOST ? MTLCommandBufferErrorDeviceRemoved
                                                       : MTLCommandBufferErrorInternal;
    pthread_mutex_lock(&lock);
    replace(buffer, @selector(commit), (IMP)counted_commit);
    replace(buffer, @selector(status), (IMP)failing_status);
    replace(buffer, @selector(error), (IMP)failing_error);
    if (failing == nil) {
      failing = [[NSMutableArray alloc] init];
    }
    [ordered_error release];
    ordered_error = [[NSError alloc] initWithDomain:MTLCommandBufferErrorDomain code:code userInfo:nil];
    commits_to_failure = status == MST_OK ? 0 : fail_held(n);
    pthread_mutex_unlock(&lock);
    return MST_OK;
  }
}

int32_t mst_test_ordered(void) {
  pthread_mutex_lock(&lock);
  int32_t ordered = commits_to_failure > 0;
  pthread_mutex_unlock(&lock);
  return ordered;
}

/* ------------------------------------------------------------------------------------------------------- memory --- */

int32_t mst_test_memory_limit(mst_device *device, uint64_t bytes) {
  if (!mst_is(device, MST_TAG_DEVICE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
  }
  device->limit_bytes = bytes != 0 ? bytes : device->metal.recommendedMaxWorkingSetSize;
  return MST_OK;
}

/* ---------------------------------------------------------------------------------------- what a GPU has not ------ */

int32_t mst_test_seed(mst_device *device, uint64_t seed) {
  (void)device;
  (void)seed;
  return MST_OK; /* the order is the driver's, whatever one draws */
}

int32_t mst_test_latency(mst_device *device, uint64_t latency_ns) {
  (void)device;
  (void)latency_ns;
  return MST_OK; /* a GPU takes the time it takes */
}

int32_t mst_test_live(mst_test_live_objects *out_live) {
  (void)out_live;
  return MST_FAIL(MST_ERROR_UNSUPPORTED, "use leaks(1)");
}
