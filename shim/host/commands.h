/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_COMMANDS_H
#define MST_HOST_COMMANDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "completions.h"
#include "mst.h"

/* A wait for a value of another queue that was not completed when it was encoded. */
typedef struct mst_wait {
  mst_queue *queue;   /* the one that waits */
  mst_queue *awaited; /* valid until resolved */
  uint64_t value;
  struct mst_wait *previous; /* awaited->waits, until resolved; guarded by the scheduler's lock */
  struct mst_wait *next;
  mst_cause failure;    /* once resolved: why the command buffer must not go on; value 0 if it may */
  atomic_bool resolved; /* set under the scheduler's lock */
} mst_wait;

enum mst_op_kind { MST_OP_WAIT, MST_OP_FILL, MST_OP_COPY, MST_OP_EXECUTABLE, MST_OP_LAYER_NORM };

typedef struct mst_op {
  uint8_t kind;
  uint8_t byte;            /* fill */
  uint32_t count;          /* of arguments: executable, layer norm */
  uint64_t first_argument; /* in mst_commands.arguments */
  union {
    mst_wait *wait;
    struct {
      mst_buffer *buffer;
      uint64_t offset;
      uint64_t length;
    } fill;
    struct {
      mst_buffer *source;
      mst_buffer *target;
      uint64_t source_offset;
      uint64_t target_offset;
      uint64_t length;
    } copy;
    mst_executable *executable;
    struct {
      uint64_t rows;
      uint64_t columns;
      float eps;
    } layer_norm;
  } as;
} mst_op;

/* A command buffer. Open: owned by the encoding side. Committed: by the thread that runs its queue. */
struct mst_commands {
  mst_queue *queue;
  uint64_t value;

  mst_op *ops;
  uint32_t op_count;
  uint32_t op_capacity;
  mst_buffer **arguments;
  uint32_t argument_count;
  uint32_t argument_capacity;
  mst_wait **waits; /* made once, used again */
  uint32_t wait_count;
  uint32_t wait_capacity;

  uint32_t next_op;
  bool awaited; /* committed with MST_COMMIT_WAITING */
  bool started; /* taken by a runner: a hold comes too late */
  bool begun;   /* past the waits at its beginning */
  int32_t status;
  uint64_t start_ns;
  uint64_t end_ns;
  mst_cause cause;    /* status DEPENDENCY */
  const char *reason; /* other failures: static text */
};
typedef struct mst_commands mst_commands;

enum mst_run_outcome {
  MST_RUN_DONE,  /* executed to its end, well or not */
  MST_RUN_WAIT,  /* stands at a wait that was unresolved when looked at */
  MST_RUN_PAUSED /* the deadline has passed */
};

/* Executes on from where it stood. */
enum mst_run_outcome mst_commands_run(mst_commands *commands, uint64_t deadline);

/* The wait at which it stands. */
mst_wait *mst_commands_wait(const mst_commands *commands);

/* Gives back what the operations kept: buffers may be destroyed, executables may end. Lock not held. */
void mst_commands_retire(mst_commands *commands);

/* Takes waits that were never reached off their lists, and empties the command buffer. Lock held. */
void mst_commands_clear(mst_commands *commands);

/* Drops the open command buffer. Lock not held; serialised per queue. */
void mst_commands_drop_open(mst_queue *queue);

/* Frees the storage. */
void mst_commands_free(mst_commands *commands);

#endif
