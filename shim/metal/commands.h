/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_COMMANDS_H
#define MST_METAL_COMMANDS_H

#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#include <stdbool.h>
#include <stdint.h>

#include "mst.h"

typedef struct mst_commands mst_commands;

/* Where a failure began. */
typedef struct mst_cause {
  uint64_t queue_id;
  uint64_t value; /* 0: no failure */
} mst_cause;

/* A wait for a value of another queue that was not completed when it was encoded. Guarded by the device's lock. */
typedef struct mst_wait {
  mst_commands *commands;
  mst_queue *awaited;       /* valid until it is resolved */
  id<MTLSharedEvent> event; /* retained: a host queue may be gone before the GPU has passed the wait */
  uint64_t value;
  bool moot; /* a failure is known already: it keeps the command buffer, but is not its cause */
  bool resolved;
  mst_cause failure;
  struct mst_wait *previous; /* awaited->waits, until it is resolved */
  struct mst_wait *next;
  struct mst_wait *later; /* commands->waits, in the order of encoding */
} mst_wait;

/* The wrapper through which MPS encodes. MPS and MPSGraph may commit the root buffer and continue with a new one in the
 * middle of an encode; this class sees it, because they go through -commitAndContinue. */
@interface MSTCommandBuffer : MPSCommandBuffer {
 @public
  mst_commands *commands; /* of the open command buffer; NULL between two */
}
- (void)commitAndContinue;
@end

/* See commands.m. */
struct mst_commands {
  mst_queue *queue;
  uint64_t value;

  /* The encoding side, until commit or discard. */
  MSTCommandBuffer *metal;
  id<MTLCommandBuffer> watched;         /* the last root that was given a completion handler */
  id<MTLComputeCommandEncoder> compute; /* open only within one call: kernels.m */
  mst_cause dependency; /* a wait was encoded for a value known to have failed: nothing more is encoded */

  /* What it uses until it is published. */
  mst_buffer **buffers;
  uint32_t buffer_count;
  uint32_t buffer_capacity;
  mst_executable **executables;
  uint32_t executable_count;
  uint32_t executable_capacity;

  /* Guarded by the device's lock. */
  uint32_t roots;      /* root buffers with a handler that has not run */
  uint32_t unresolved; /* waits */
  bool discarded;
  mst_wait *waits;
  mst_wait *last_wait;
  uint64_t start_ns;
  uint64_t end_ns;
  int32_t status;                 /* of the first root that failed */
  char message[200];              /* the same */
  mst_cause cause;                /* of the first wait, in the order of encoding, for something that failed */
  mst_commands *next;             /* queue->first, then the chain of published ones */
  id<MTLSharedEvent> unsignalled; /* Metal has not signalled the value: to be done by hand */
};

/* Where the next operation goes: the live root. Any encode by MPS may replace it. */
static inline id<MTLCommandBuffer> mst_commands_root(const mst_commands *commands) {
  return commands->metal.rootCommandBuffer;
}

/* Gives the live root its completion handler, if it has none. Needed before anything that may commit it. */
void mst_commands_watch(mst_commands *commands);

/* Notes that the wait is over. Lock held. */
void mst_wait_resolve(mst_wait *wait, mst_cause failure);

/* Ends published command buffers, a chain: signals by hand, gives back executables, frees. Lock not held. */
void mst_commands_end(mst_commands *published);

/* Drops the open command buffer, if there is one. Lock not held; serialised per queue. */
void mst_commands_drop_open(mst_queue *queue);

/* The open command buffer `value`, or NULL and an error in `status` on behalf of `function`. */
mst_commands *mst_commands_find_open(mst_queue *queue, uint64_t value, const char *function, int32_t *status);

/* Whether `buffer` may be used on `queue`, from offset on for length bytes; else an error. */
int32_t mst_commands_check_range(const mst_queue *queue, const mst_buffer *buffer, uint64_t offset, uint64_t length,
                                 const char *function);

/* Counts a use of each of these buffers, all or none. MST_OK or an error. */
int32_t mst_commands_use(mst_commands *commands, mst_buffer *const *buffers, uint32_t count, const char *function);

/* Takes the last `count` uses back: the operation could not be encoded. */
void mst_commands_unuse(mst_commands *commands, uint32_t count);

/* Keeps an executable until the command buffer is published. False: no memory. */
bool mst_commands_keep(mst_commands *commands, mst_executable *executable);

#endif
