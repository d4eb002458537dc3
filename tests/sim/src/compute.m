/*
 * Simulated Metal: compute encoders, and the driver's contexts behind them.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A context is taken from a list of free ones when an encoder is made and goes back when it is destroyed. Apple's
 * driver was seen to give it back first and to clear its implementation pointer after the unlock: whoever has the
 * context by then has it cleared under his hands. MST_SIM_DESTROY_IMPL_RACE=1 does the same between encoders that the
 * program opens itself; those that MPS opens have contexts of their own, which are given back whole. With =all they
 * are like any other. The two threads wait for each other briefly, so that the race is met whenever it can be.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "metal.h"

struct sim_context {
  struct sim_context *next;
  _Atomic(void *) impl;        /* what every call on the encoder goes through */
  _Atomic(bool) clearing;      /* its last user has given it back and is about to clear impl */
  _Atomic(bool) taken_early;   /* a new user has it although it is being cleared */
  struct sim_context **list;   /* where it goes back to */
  bool races;                  /* of this use: whether it is given back before it is cleared */
};

static pthread_mutex_t contexts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_context *free_contexts;
static struct sim_context *free_contexts_of_mps; /* used while MPS is spared the race */
static _Thread_local bool mps_is_encoding;
static char implementation;
static struct sim_region open_encoders;

enum { LINGER_NS = 300 * 1000, CLEARED_NS = 5 * 1000 * 1000 };

static void wait_for_flag(_Atomic(bool) *flag, bool value, uint64_t nanoseconds) {
  for (uint64_t end = sim_now_ns() + nanoseconds; atomic_load(flag) != value && sim_now_ns() < end;)
    sched_yield();
}

static struct sim_context *take_context(void) {
  int64_t race = sim_switches.destroy_impl_race;
  bool spared = mps_is_encoding && race != SIM_IMPL_RACE_ALL;
  struct sim_context **list = spared ? &free_contexts_of_mps : &free_contexts;
  pthread_mutex_lock(&contexts_lock);
  struct sim_context *context = *list;
  if (context != NULL)
    *list = context->next;
  pthread_mutex_unlock(&contexts_lock);
  if (context == NULL) {
    context = calloc(1, sizeof *context);
    if (context == NULL)
      sim_stop("no memory for a context");
  }
  context->list = list;
  context->races = race != SIM_IMPL_RACE_OFF && !spared;
  atomic_store(&context->impl, &implementation);
  if (atomic_load(&context->clearing)) {
    sim_count(SIM_COUNT_IMPL_RACES);
    atomic_store(&context->taken_early, true);
    wait_for_flag(&context->clearing, false, CLEARED_NS);
  }
  return context;
}

static void give_context_back(struct sim_context *context) {
  bool race = context->races;
  struct sim_context **list = context->list;
  atomic_store(&context->taken_early, false);
  atomic_store(&context->clearing, race);
  if (!race)
    atomic_store(&context->impl, NULL);
  pthread_mutex_lock(&contexts_lock);
  context->next = *list;
  *list = context;
  pthread_mutex_unlock(&contexts_lock);
  if (race) {
    wait_for_flag(&context->taken_early, true, LINGER_NS);
    atomic_store(&context->impl, NULL);
    atomic_store(&context->clearing, false);
  }
}

AGXSimFamilyComputeContext *sim_encoder_of_mps(AGXSimFamilyCommandBuffer *root) {
  mps_is_encoding = true;
  id<MTLComputeCommandEncoder> encoder = [root computeCommandEncoder];
  mps_is_encoding = false;
  return (AGXSimFamilyComputeContext *)encoder;
}

@implementation AGXSimFamilyComputeContext
@dynamic device, label; /* SimEncoder's */

- (instancetype)initWithCommandBuffer:(AGXSimFamilyCommandBuffer *)buffer dispatchType:(MTLDispatchType)type {
  self = [super initWithCommandBuffer:buffer];
  if (self != nil) {
    _dispatch_type = type;
    _impl = take_context();
  }
  return self;
}

- (void)destroyImpl {
  struct sim_context *context = _impl;
  _impl = NULL;
  give_context_back(context);
}

- (void)touchImpl {
  if (_impl == NULL || atomic_load(&_impl->impl) == NULL)
    sim_stop("a compute encoder is used after its context's implementation was cleared: the destroyImpl race");
}

- (void)dealloc {
  [self destroyImpl];
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++)
    free(_arguments[i].bytes);
  [_pipeline release];
  [super dealloc];
}

- (MTLDispatchType)dispatchType {
  return _dispatch_type;
}

- (void)checkOpen:(const char *)what {
  [super checkOpen:what];
  [self touchImpl];
}

- (void)endEncoding {
  [super endEncoding];
  if (_counted)
    sim_region_leave(&open_encoders);
}

/* Apple's stack was seen to fail with four threads that encode kernels at once. */
- (void)countAmongOpen {
  if (_counted)
    return;
  _counted = true;
  if (!sim_region_enter(&open_encoders, sim_switches.compute_limit))
    return;
  sim_count(SIM_COUNT_COMPUTE_OVERLAPS);
  switch ((enum sim_outcome)sim_switches.race_outcome) {
    case SIM_OUTCOME_ABORT:
      sim_stop("more than %lld threads encode compute kernels at once", (long long)sim_switches.compute_limit);
    case SIM_OUTCOME_ERROR:
      _command_buffer->_doom = MTLCommandBufferErrorInternal;
      break;
    case SIM_OUTCOME_GARBAGE:
      _command_buffer->_garbage = true;
      break;
  }
}

- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"setComputePipelineState:"];
  if (state == nil)
    sim_stop("setComputePipelineState: without a pipeline state");
  [self countAmongOpen];
  SimPipeline *pipeline = [(SimPipeline *)state retain];
  [_pipeline release];
  _pipeline = pipeline;
  sim_exclusive_leave(&_exclusive);
}

- (void)setBuffer:(id<MTLBuffer>)object offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"setBuffer:"];
  if (index >= SIM_MAX_ARGUMENTS)
    sim_stop("a buffer at index %llu, of at most %d", (unsigned long long)index, SIM_MAX_ARGUMENTS);
  struct sim_argument *argument = &_arguments[index];
  free(argument->bytes);
  memset(argument, 0, sizeof *argument);
  if (object != nil) {
    argument->buffer = sim_buffer(object, "setBuffer:");
    [argument->buffer checkRange:offset length:1 in:"setBuffer:"];
    argument->offset = offset;
    [_command_buffer uses:argument->buffer];
  }
  sim_exclusive_leave(&_exclusive);
}

- (void)setBytes:(const void *)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"setBytes:"];
  if (index >= SIM_MAX_ARGUMENTS || length == 0 || length > SIM_MAX_BYTES)
    sim_stop("setBytes: of %llu bytes at index %llu", (unsigned long long)length, (unsigned long long)index);
  struct sim_argument *argument = &_arguments[index];
  free(argument->bytes);
  memset(argument, 0, sizeof *argument);
  argument->bytes = malloc(length);
  if (argument->bytes == NULL)
    sim_stop("no memory for the bytes of an argument");
  memcpy(argument->bytes, bytes, length);
  argument->length = length;
  sim_exclusive_leave(&_exclusive);
}

- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"setThreadgroupMemoryLength:"];
  if (index >= SIM_MAX_ARGUMENTS || length % 16 != 0)
    sim_stop("%llu bytes of threadgroup memory at index %llu: not a multiple of 16, or too high an index",
             (unsigned long long)length, (unsigned long long)index);
  _threadgroup_memory[index] = length;
  sim_exclusive_leave(&_exclusive);
}

- (void)dispatchThreads:(MTLSize)threads threadsPerThreadgroup:(MTLSize)group {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"dispatchThreads:"];
  sim_kernel_dispatch(self, threads, group);
  sim_exclusive_leave(&_exclusive);
}

- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)group {
  sim_exclusive_enter(&_exclusive, "a compute encoder");
  [self checkOpen:"dispatchThreadgroups:"];
  MTLSize threads = {groups.width * group.width, groups.height * group.height, groups.depth * group.depth};
  sim_kernel_dispatch(self, threads, group);
  sim_exclusive_leave(&_exclusive);
}

@end
