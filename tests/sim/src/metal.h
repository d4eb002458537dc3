/*
 * Simulated Metal: the classes behind the protocols of Metal.h.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A command queue is two threads. The GPU thread executes command buffers one after the other in the order of their
 * commits; the completion thread runs handlers, with no autorelease pool, while the next command buffer runs already.
 * An encoder puts commands, which are blocks, on its command buffer; nothing is executed before the commit.
 */
#ifndef SIM_METAL_CLASSES_H
#define SIM_METAL_CLASSES_H

#include <pthread.h>

#import <Metal/Metal.h>

#include "sim.h"

@class SimDevice, SimBuffer, SimQueue, AGXSimFamilyCommandBuffer;

/* What a running command knows: its place in the order of things. */
struct sim_run {
  int queue;
  sim_clock clock;  /* what happened before; the own component is that of the last signal */
  uint64_t tick;    /* the own component that the commands of this moment will be known by */
  uint64_t signalled; /* when the last command began, if it is a signal; else 0 */
};

/* Executes one command. Returns 0 or a MTLCommandBufferError. */
typedef uint32_t (^sim_command)(struct sim_run *run);

@interface SimDevice : SimObject <MTLDevice> {
 @public
  _Atomic(uint64_t) _allocated;
}
/* The only device: made once, never deallocated. */
+ (SimDevice *)shared;
@end

@interface SimBuffer : SimObject <MTLBuffer> {
 @public
  SimDevice *_device;
  NSString *_label;
  NSUInteger _length;
  MTLResourceOptions _options;
  char *_bytes;
  _Atomic(int64_t) _users; /* command buffers that were encoded with it and are not done */
  pthread_rwlock_t _access; /* held by the command that reads or writes it: Metal's hazard tracking */
  pthread_mutex_t _lock;
  struct sim_use *_uses; /* the last ones */
  int _use_count;
}
- (instancetype)initWithDevice:(SimDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options;
/* Stops the process if the range is not inside the buffer. */
- (void)checkRange:(NSUInteger)offset length:(NSUInteger)length in:(const char *)what;
@end

/* What a command does to a range of a buffer. */
struct sim_access {
  SimBuffer *buffer;
  NSUInteger offset;
  NSUInteger length;
  bool write;
};

/* Between the two the command has its buffers to itself, or with other readers. The first stops the process if a use is
 * not ordered after every earlier use that it conflicts with. */
enum { SIM_MAX_ACCESSES = 64 };
void sim_access_begin(const struct sim_access *accesses, int count, struct sim_run *run);
void sim_access_end(const struct sim_access *accesses, int count);
/* A use that became known during the command. */
void sim_access_check(struct sim_access access, struct sim_run *run);

/* The buffer behind an id<MTLBuffer>; stops the process if it is nil or none of ours. */
SimBuffer *sim_buffer(id<MTLBuffer> buffer, const char *what);

@interface SimSharedEvent : SimObject <MTLSharedEvent> {
  SimDevice *_device;
  NSString *_label;
  pthread_mutex_t _lock;
  pthread_cond_t _raised;
  uint64_t _value;
  struct sim_signal *_signals; /* the last ones, oldest first */
  struct sim_notification *_notifications;
}
- (instancetype)initWithDevice:(SimDevice *)device;
- (void)signal:(uint64_t)value clock:(const sim_clock *)clock;
- (void)wait:(uint64_t)value clock:(sim_clock *)clock;
@end

/* State shared by a queue, its command buffers and its threads; ends with the last of them. */
struct sim_engine;

@interface SimQueue : SimObject <MTLCommandQueue> {
 @public
  SimDevice *_device;
  NSString *_label;
  struct sim_engine *_engine;
}
- (instancetype)initWithDevice:(SimDevice *)device maxCommandBufferCount:(NSUInteger)count;
@end

/* Holds a queue, but for so many command buffers more, or lets it go. */
void sim_queue_hold(id<MTLCommandQueue> queue, bool held, uint32_t steps);

/* One uncompleted command buffer more, or less, of the queue; more may block, and stops the process if it blocks
 * long. */
void sim_engine_claim(struct sim_engine *engine);
void sim_engine_unclaim(struct sim_engine *engine);
/* Gives the command buffer its place in the order of the queue; it runs once it is committed. */
void sim_engine_enqueue(struct sim_engine *engine, AGXSimFamilyCommandBuffer *buffer);
void sim_engine_committed(struct sim_engine *engine);

@interface AGXSimFamilyCommandBuffer : SimObject <MTLCommandBuffer> {
 @public
  SimQueue *_queue;
  NSString *_label;
  bool _retained;
  struct sim_exclusive _exclusive;
  pthread_mutex_t _lock;
  pthread_cond_t _changed;
  MTLCommandBufferStatus _status;
  bool _handled; /* the completed handlers have returned */
  pthread_t _handler_thread;
  NSError *_error;
  double _start, _end;
  id _encoder; /* the open one, not retained: its autorelease pool or its user holds it */
  sim_command *_commands;
  int _command_count;
  int _leading_waits; /* commands at the start that wait */
  SimBuffer **_buffers; /* each once per use */
  int _buffer_count;
  MTLCommandBufferHandler *_scheduled_handlers;
  int _scheduled_count;
  MTLCommandBufferHandler *_completed_handlers;
  int _completed_count;
  uint32_t _doom; /* the MTLCommandBufferError that it will end with, for what its encoding did */
  bool _garbage;  /* its results will be wrong */
  sim_clock _seen;
}
- (instancetype)initWithQueue:(SimQueue *)queue retained:(bool)retained;
/* Puts a command at the end. The command must not retain buffers of its own accord: they are named by -uses:. */
- (void)append:(sim_command)command;
/* Notes that a command uses the buffer; retains it unless the command buffer was asked not to. */
- (void)uses:(SimBuffer *)buffer;
- (void)checkEncoding:(const char *)what;
/* On the threads of the queue. */
- (void)runOn:(struct sim_run *)run;
- (void)callScheduledHandlers;
- (void)callCompletedHandlers;
@end

/* The command buffer behind an id<MTLCommandBuffer>: an MPSCommandBuffer's is its root. */
AGXSimFamilyCommandBuffer *sim_command_buffer(id<MTLCommandBuffer> buffer, const char *what);

/* Base of the encoders. */
@interface SimEncoder : SimObject {
 @public
  AGXSimFamilyCommandBuffer *_command_buffer;
  NSString *_label;
  bool _ended;
  struct sim_exclusive _exclusive;
}
- (instancetype)initWithCommandBuffer:(AGXSimFamilyCommandBuffer *)buffer;
- (id<MTLDevice>)device;
- (NSString *)label;
- (void)setLabel:(NSString *)label;
- (void)checkOpen:(const char *)what;
- (void)endEncoding;
@end

@interface AGXSimFamilyBlitContext : SimEncoder <MTLBlitCommandEncoder>
@end

/* A context of the GPU: recycled between compute encoders, as the driver does it. */
struct sim_context;

enum { SIM_MAX_ARGUMENTS = 31, SIM_MAX_BYTES = 4096 };

struct sim_argument {
  SimBuffer *buffer;
  NSUInteger offset;
  unsigned char *bytes;
  NSUInteger length;
};

@class SimPipeline;

@interface AGXSimFamilyComputeContext : SimEncoder <MTLComputeCommandEncoder> {
 @public
  struct sim_context *_impl;
  MTLDispatchType _dispatch_type;
  SimPipeline *_pipeline;
  bool _counted; /* among the encoders that are open at once */
  struct sim_argument _arguments[SIM_MAX_ARGUMENTS];
  NSUInteger _threadgroup_memory[SIM_MAX_ARGUMENTS];
}
- (instancetype)initWithCommandBuffer:(AGXSimFamilyCommandBuffer *)buffer dispatchType:(MTLDispatchType)type;
/* What the driver does when an encoder goes. */
- (void)destroyImpl;
/* Every call on the encoder goes through its context; stops the process if that is gone. */
- (void)touchImpl;
@end

/* The encoder that MPS opens for itself; autoreleased. */
AGXSimFamilyComputeContext *sim_encoder_of_mps(AGXSimFamilyCommandBuffer *root);

#endif /* SIM_METAL_CLASSES_H */
