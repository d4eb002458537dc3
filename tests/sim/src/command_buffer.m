/*
 * Simulated Metal: command buffers.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Encoding belongs to one thread at a time. Status, error and times are guarded by the lock; a status only grows.
 */
#include <Block.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "metal.h"

@implementation MTLCommandBufferDescriptor
@synthesize retainedReferences = _retainedReferences;
@synthesize errorOptions = _errorOptions;

- (instancetype)init {
  self = [super init];
  if (self != nil)
    _retainedReferences = YES;
  return self;
}

- (id)copyWithZone:(NSZone *)zone {
  MTLCommandBufferDescriptor *copy = [[[self class] allocWithZone:zone] init];
  copy.retainedReferences = _retainedReferences;
  copy.errorOptions = _errorOptions;
  return copy;
}

@end

static const char *error_text(uint32_t code) {
  switch (code) {
    case MTLCommandBufferErrorTimeout:
      return "Caused GPU Timeout Error (simulated)";
    case MTLCommandBufferErrorPageFault:
      return "Caused GPU Address Fault Error (simulated)";
    case MTLCommandBufferErrorOutOfMemory:
      return "Insufficient Memory (simulated)";
    case MTLCommandBufferErrorInvalidResource:
      return "Invalid Resource (simulated)";
    case MTLCommandBufferErrorDeviceRemoved:
      return "Device Removed (simulated)";
    default:
      return "Internal Error (simulated)";
  }
}

static void *grow(void *array, int count, size_t size) {
  if ((count & (count - 1)) != 0 || (count > 0 && count < 4))
    return array;
  void *grown = realloc(array, (size_t)(count == 0 ? 4 : 2 * count) * size);
  if (grown == NULL)
    sim_stop("no memory for a command buffer");
  return grown;
}

AGXSimFamilyCommandBuffer *sim_command_buffer(id<MTLCommandBuffer> buffer, const char *what) {
  if (buffer == nil)
    sim_stop("%s: no command buffer", what);
  if ([(NSObject *)buffer isKindOfClass:[MPSCommandBuffer class]])
    buffer = [(MPSCommandBuffer *)buffer rootCommandBuffer];
  if (![(NSObject *)buffer isKindOfClass:[AGXSimFamilyCommandBuffer class]])
    sim_stop("%s: not a command buffer", what);
  return (AGXSimFamilyCommandBuffer *)buffer;
}

@implementation AGXSimFamilyCommandBuffer

- (instancetype)initWithQueue:(SimQueue *)queue retained:(bool)retained {
  self = [super init];
  if (self != nil) {
    _queue = [queue retain];
    _retained = retained;
    pthread_mutex_init(&_lock, NULL);
    pthread_cond_init(&_changed, NULL);
    sim_engine_claim(queue->_engine);
  }
  return self;
}

- (void)dropCommands {
  for (int i = 0; i < _command_count; i++)
    Block_release(_commands[i]);
  for (int i = 0; i < _buffer_count; i++) {
    atomic_fetch_sub(&_buffers[i]->_users, 1);
    if (_retained)
      [_buffers[i] release];
  }
  _command_count = 0;
  _buffer_count = 0;
}

- (void)dealloc {
  if (_encoder != nil)
    sim_stop("a command buffer was released with an open encoder");
  if (_status < MTLCommandBufferStatusCommitted) {
    if (_status == MTLCommandBufferStatusEnqueued)
      sim_stop("an enqueued command buffer was released without a commit: the queue is stuck");
    sim_engine_unclaim(_queue->_engine);
  }
  [self dropCommands];
  for (int i = 0; i < _scheduled_count; i++)
    Block_release(_scheduled_handlers[i]);
  for (int i = 0; i < _completed_count; i++)
    Block_release(_completed_handlers[i]);
  free(_commands);
  free(_buffers);
  free(_scheduled_handlers);
  free(_completed_handlers);
  pthread_cond_destroy(&_changed);
  pthread_mutex_destroy(&_lock);
  [_error release];
  [_label release];
  [_queue release];
  [super dealloc];
}

/* ------------------------------------------------------------------------------------------------- facts ---------- */

- (id<MTLDevice>)device {
  return _queue->_device;
}

- (id<MTLCommandQueue>)commandQueue {
  return _queue;
}

- (BOOL)retainedReferences {
  return _retained;
}

- (MTLCommandBufferErrorOption)errorOptions {
  return MTLCommandBufferErrorOptionNone;
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (MTLCommandBufferStatus)status {
  pthread_mutex_lock(&_lock);
  MTLCommandBufferStatus status = _status;
  pthread_mutex_unlock(&_lock);
  return status;
}

- (NSError *)error {
  pthread_mutex_lock(&_lock);
  NSError *error = _error;
  pthread_mutex_unlock(&_lock);
  return error;
}

- (CFTimeInterval)GPUStartTime {
  pthread_mutex_lock(&_lock);
  double start = _start;
  pthread_mutex_unlock(&_lock);
  return start;
}

- (CFTimeInterval)GPUEndTime {
  pthread_mutex_lock(&_lock);
  double end = _end;
  pthread_mutex_unlock(&_lock);
  return end;
}

- (CFTimeInterval)kernelStartTime {
  return [self GPUStartTime];
}

- (CFTimeInterval)kernelEndTime {
  return [self GPUEndTime];
}

- (void)advance:(MTLCommandBufferStatus)status {
  pthread_mutex_lock(&_lock);
  _status = status;
  pthread_cond_broadcast(&_changed);
  pthread_mutex_unlock(&_lock);
}

/* ------------------------------------------------------------------------------------------------- encoding ------- */

- (void)checkEncoding:(const char *)what {
  if ([self status] >= MTLCommandBufferStatusCommitted)
    sim_stop("%s on a command buffer that is committed", what);
}

- (void)checkNoEncoder:(const char *)what {
  [self checkEncoding:what];
  if (_encoder != nil)
    sim_stop("%s: a command encoder is already encoding to this command buffer", what);
}

- (void)append:(sim_command)command {
  sim_exclusive_enter(&_exclusive, "a command buffer");
  _commands = grow(_commands, _command_count, sizeof *_commands);
  _commands[_command_count++] = Block_copy(command);
  sim_exclusive_leave(&_exclusive);
}

- (void)uses:(SimBuffer *)buffer {
  sim_exclusive_enter(&_exclusive, "a command buffer");
  _buffers = grow(_buffers, _buffer_count, sizeof *_buffers);
  _buffers[_buffer_count++] = buffer;
  atomic_fetch_add(&buffer->_users, 1);
  if (_retained)
    [buffer retain];
  sim_exclusive_leave(&_exclusive);
}

- (void)addScheduledHandler:(MTLCommandBufferHandler)block {
  [self checkEncoding:"a scheduled handler"];
  _scheduled_handlers = grow(_scheduled_handlers, _scheduled_count, sizeof *_scheduled_handlers);
  _scheduled_handlers[_scheduled_count++] = Block_copy(block);
}

- (void)addCompletedHandler:(MTLCommandBufferHandler)block {
  [self checkEncoding:"a completed handler"];
  _completed_handlers = grow(_completed_handlers, _completed_count, sizeof *_completed_handlers);
  _completed_handlers[_completed_count++] = Block_copy(block);
}

- (void)encodeSignalEvent:(id<MTLEvent>)object value:(uint64_t)value {
  [self checkNoEncoder:"a signal"];
  if (object == nil)
    sim_stop("a signal of no event");
  SimSharedEvent *event = (SimSharedEvent *)object;
  [self append:^(struct sim_run *run) {
    run->signalled = sim_now_ns();
    run->clock.tick[run->queue] = run->tick++;
    sim_clock_seen(&run->clock);
    [event signal:value clock:&run->clock];
    return (uint32_t)0;
  }];
}

- (void)encodeWaitForEvent:(id<MTLEvent>)object value:(uint64_t)value {
  [self checkNoEncoder:"a wait"];
  if (object == nil)
    sim_stop("a wait for no event");
  SimSharedEvent *event = (SimSharedEvent *)object;
  if (_leading_waits == _command_count)
    _leading_waits++;
  [self append:^(struct sim_run *run) {
    [event wait:value clock:&run->clock];
    return (uint32_t)0;
  }];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [self computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  [self checkNoEncoder:"a compute encoder"];
  return [[[AGXSimFamilyComputeContext alloc] initWithCommandBuffer:self dispatchType:type] autorelease];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  [self checkNoEncoder:"a blit encoder"];
  return [[[AGXSimFamilyBlitContext alloc] initWithCommandBuffer:self] autorelease];
}

- (void)pushDebugGroup:(NSString *)string {
  (void)string;
}

- (void)popDebugGroup {
}

/* ------------------------------------------------------------------------------------------------- commit --------- */

- (void)enqueue {
  [self checkEncoding:"enqueue"];
  if ([self status] == MTLCommandBufferStatusEnqueued)
    return;
  [self advance:MTLCommandBufferStatusEnqueued];
  sim_engine_enqueue(_queue->_engine, self);
}

- (void)commit {
  [self checkNoEncoder:"commit"];
  sim_clock_read_seen(&_seen);
  if ([self status] == MTLCommandBufferStatusNotEnqueued)
    [self enqueue];
  [self advance:MTLCommandBufferStatusCommitted];
  sim_engine_committed(_queue->_engine);
}

- (void)checkWait:(const char *)what {
  if ([self status] < MTLCommandBufferStatusCommitted)
    sim_stop("%s on a command buffer that is not committed would never return", what);
  pthread_mutex_lock(&_lock);
  bool own = _status >= MTLCommandBufferStatusCompleted && !_handled && pthread_equal(_handler_thread, pthread_self());
  pthread_mutex_unlock(&_lock);
  if (own)
    sim_stop("%s in a handler of the command buffer would never return", what);
}

- (void)waitUntilScheduled {
  [self checkWait:"waitUntilScheduled"];
  pthread_mutex_lock(&_lock);
  while (_status < MTLCommandBufferStatusScheduled)
    pthread_cond_wait(&_changed, &_lock);
  pthread_mutex_unlock(&_lock);
}

- (void)waitUntilCompleted {
  [self checkWait:"waitUntilCompleted"];
  pthread_mutex_lock(&_lock);
  while (!_handled)
    pthread_cond_wait(&_changed, &_lock);
  pthread_mutex_unlock(&_lock);
}

/* ------------------------------------------------------------------------------------------------- execution ------ */

- (void)callScheduledHandlers {
  for (int i = 0; i < _scheduled_count; i++)
    _scheduled_handlers[i](self);
  [self advance:MTLCommandBufferStatusScheduled];
}

- (uint32_t)runCommandsOn:(struct sim_run *)run {
  uint32_t failed = _doom;
  for (int i = 0; i <= _command_count && failed == 0; i++) {
    if (i == _leading_waits) /* only now is it the turn of this command buffer */
      failed = sim_ordered_failure(_queue->_label);
    if (i < _command_count && failed == 0) {
      run->signalled = 0;
      failed = _commands[i](run);
    }
  }
  return failed;
}

- (void)runOn:(struct sim_run *)run {
  double start = (double)sim_now_ns() * 1e-9;
  run->signalled = 0;
  sim_count(SIM_COUNT_COMMAND_BUFFERS);
  sim_clock_join(&run->clock, &_seen);
  run->tick = run->clock.tick[run->queue] + 1;
  if (sim_switches.latency_us > 0)
    usleep((useconds_t)sim_switches.latency_us);
  uint32_t failed = [self runCommandsOn:run];
  /* Complete: from here on the CPU may know, and whatever it commits is ordered after this. */
  run->clock.tick[run->queue] = run->tick;
  sim_clock_seen(&run->clock);
  NSError *error = nil;
  if (failed != 0) {
    sim_count(SIM_COUNT_FAILURES);
    @autoreleasepool {
      NSString *text = [NSString stringWithUTF8String:error_text(failed)];
      error = [[NSError alloc] initWithDomain:MTLCommandBufferErrorDomain
                                         code:(NSInteger)failed
                                     userInfo:@{NSLocalizedDescriptionKey : text}];
    }
  }
  [self dropCommands];
  pthread_mutex_lock(&_lock);
  _start = start;
  /* Whoever waited for a signal that was the last command must not seem to have ended before. */
  _end = (double)(run->signalled > 0 ? run->signalled : sim_now_ns()) * 1e-9;
  _error = error;
  _status = failed == 0 ? MTLCommandBufferStatusCompleted : MTLCommandBufferStatusError;
  pthread_mutex_unlock(&_lock);
}

- (void)callCompletedHandlers {
  pthread_mutex_lock(&_lock);
  _handler_thread = pthread_self();
  pthread_mutex_unlock(&_lock);
  for (int i = 0; i < _completed_count; i++) {
    _completed_handlers[i](self);
    Block_release(_completed_handlers[i]); /* and with it whatever it captured, as Metal does */
  }
  _completed_count = 0;
  pthread_mutex_lock(&_lock);
  _handled = true;
  pthread_cond_broadcast(&_changed);
  pthread_mutex_unlock(&_lock);
}

@end
