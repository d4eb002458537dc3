/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Command buffers: how operations are encoded, kept and executed.
 *
 * A command buffer is one of the queue's max_in_flight slots (queue.c), so encoding takes no lock and, once the slot has
 * grown to the size of the work, no memory either. The exception is a wait for a value that is not completed yet: it
 * takes the scheduler's lock to put itself on the awaited queue's list. */
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/error.h"
#include "buffer.h"
#include "device.h"
#include "executable.h"
#include "queue.h"
#include "test_hooks.h"
#include "vector.h"

/* A slot that has grown beyond this gives its memory back when it is retired. */
enum { MOST_KEPT = 1024 };

/* ------------------------------------------------------------------------------------------------------ storage --- */

/* Makes room for `more` elements after `count`; false if there is no memory. */
static bool grow(void **array, uint32_t count, uint32_t more, uint32_t *capacity, size_t element) {
  if (*capacity - count >= more) {
    return true;
  }
  uint64_t needed = (uint64_t)count + more;
  uint64_t doubled = *capacity < 8 ? 16 : 2 * (uint64_t)*capacity;
  uint64_t grown = doubled > needed ? doubled : needed;
  if (grown > UINT32_MAX || grown > SIZE_MAX / element) {
    return false;
  }
  void *moved = realloc(*array, (size_t)grown * element);
  if (moved == NULL) {
    return false;
  }
  *array = moved;
  *capacity = (uint32_t)grown;
  return true;
}

/* The next operation, which counts once op_count is raised; NULL if there is no memory. */
static mst_op *next_op(mst_commands *commands) {
  return grow((void **)&commands->ops, commands->op_count, 1, &commands->op_capacity, sizeof(mst_op))
             ? &commands->ops[commands->op_count]
             : NULL;
}

static void unuse_arguments(mst_commands *commands, const mst_op *op) {
  for (uint32_t i = 0; i < op->count; i++) {
    mst_buffer_unuse(commands->arguments[op->first_argument + i]);
  }
}

void mst_commands_retire(mst_commands *commands) {
  for (uint32_t i = 0; i < commands->op_count; i++) {
    mst_op *op = &commands->ops[i];
    switch (op->kind) {
      case MST_OP_FILL:
        mst_buffer_unuse(op->as.fill.buffer);
        break;
      case MST_OP_COPY:
        mst_buffer_unuse(op->as.copy.source);
        mst_buffer_unuse(op->as.copy.target);
        break;
      case MST_OP_EXECUTABLE:
        mst_executable_release(op->as.executable);
        unuse_arguments(commands, op);
        break;
      case MST_OP_LAYER_NORM:
        unuse_arguments(commands, op);
        break;
      default:
        break;
    }
  }
  commands->op_count = 0;
  commands->argument_count = 0;
  if (commands->op_capacity > MOST_KEPT) {
    free(commands->ops);
    commands->ops = NULL;
    commands->op_capacity = 0;
  }
  if (commands->argument_capacity > MOST_KEPT) {
    free(commands->arguments);
    commands->arguments = NULL;
    commands->argument_capacity = 0;
  }
}

void mst_commands_clear(mst_commands *commands) {
  for (uint32_t i = 0; i < commands->wait_count; i++) {
    mst_queue_unregister_wait(commands->waits[i]);
  }
  commands->wait_count = 0;
}

void mst_commands_drop_open(mst_queue *queue) {
  if (queue->open_value == 0) {
    return;
  }
  mst_commands *commands = mst_queue_slot(queue, queue->open_value);
  mst_commands_retire(commands);
  if (commands->wait_count > 0) {
    mst_lock(queue->device);
    mst_commands_clear(commands);
    mst_unlock(queue->device);
  }
  queue->open_value = 0;
}

void mst_commands_free(mst_commands *commands) {
  for (uint32_t i = 0; i < commands->wait_capacity && commands->waits[i] != NULL; i++) {
    free(commands->waits[i]);
  }
  free(commands->waits);
  free(commands->arguments);
  free(commands->ops);
}

/* ------------------------------------------------------------------------------------- begin, commit, discard ----- */

/* The open command buffer `value`, or NULL and an error. */
static mst_commands *find_open(mst_queue *queue, uint64_t value, const char *function, int32_t *status) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    *status = mst_error(MST_ERROR_INVALID_ARGUMENT, function, "not a queue");
    return NULL;
  }
  if (value == 0 || queue->open_value != value) {
    const char *what = mst_queue_is_host(queue)                      ? "the queue is a host queue"
                       : value == 0                                  ? "0 is not a value"
                       : value <= atomic_load(&queue->committed)     ? "it is committed"
                       : value == atomic_load(&queue->committed) + 1 ? "it was not begun"
                                                                     : "it is not the next value";
    *status = mst_error(MST_ERROR_INVALID_STATE, function, "command buffer %llu of queue %llu is not open: %s",
                        (unsigned long long)value, (unsigned long long)queue->id, what);
    return NULL;
  }
  return mst_queue_slot(queue, value);
}

int32_t mst_commands_begin(mst_queue *queue, uint64_t value) {
  MST_ENTER(mst_commands_begin);
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
  }
  if (mst_queue_is_host(queue)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "queue %llu is a host queue", (unsigned long long)queue->id);
  }
  if (queue->open_value != 0) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "command buffer %llu of queue %llu is open",
                    (unsigned long long)queue->open_value, (unsigned long long)queue->id);
  }
  uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_relaxed);
  if (value != committed + 1) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu is not the next of queue %llu, %llu",
                    (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)committed + 1);
  }
  if (atomic_load_explicit(&queue->device->closed, memory_order_relaxed)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed");
  }
  if (committed - mst_queue_completed(queue) >= queue->max_in_flight) {
    return MST_FAIL(MST_ERROR_BUSY, "queue %llu has %u uncompleted command buffers", (unsigned long long)queue->id,
                    queue->max_in_flight);
  }
  mst_commands *commands = mst_queue_slot(queue, value);
  commands->value = value;
  commands->next_op = 0;
  commands->started = false;
  commands->begun = false;
  commands->status = MST_OK;
  commands->start_ns = 0;
  commands->end_ns = 0;
  commands->cause = (mst_cause){0, 0};
  commands->reason = NULL;
  queue->open_value = value;
  return MST_OK;
}

int32_t mst_commands_commit(mst_queue *queue, uint64_t value, uint32_t flags) {
  MST_ENTER(mst_commands_commit);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  if ((flags & ~(uint32_t)(MST_COMMIT_WAITING | MST_COMMIT_CONTINUE)) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  mst_device *device = queue->device;
  mst_lock(device);
  bool closed = atomic_load_explicit(&device->closed, memory_order_relaxed);
  bool reserved = !closed && mst_completions_reserve(device);
  if (reserved) {
    device->scheduler.uncompleted++;
    commands->awaited = (flags & MST_COMMIT_WAITING) != 0;
    queue->open_value = 0;
    atomic_store_explicit(&queue->committed, value, memory_order_release);
    mst_scheduler_consider(queue, commands->awaited);
  }
  mst_unlock(device);
  if (closed) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed");
  }
  return reserved ? MST_OK : MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a completion");
}

int32_t mst_commands_discard(mst_queue *queue, uint64_t value) {
  MST_ENTER(mst_commands_discard);
  int32_t status = MST_OK;
  if (find_open(queue, value, __func__, &status) == NULL) {
    return status;
  }
  mst_commands_drop_open(queue);
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------------- encode --- */

/* A wait that counts once wait_count is raised; NULL if there is no memory. */
static mst_wait *next_wait(mst_commands *commands) {
  uint32_t old_capacity = commands->wait_capacity;
  if (!grow((void **)&commands->waits, commands->wait_count, 1, &commands->wait_capacity, sizeof(mst_wait *))) {
    return NULL;
  }
  for (uint32_t i = old_capacity; i < commands->wait_capacity; i++) {
    commands->waits[i] = NULL;
  }
  if (commands->waits[commands->wait_count] == NULL) {
    commands->waits[commands->wait_count] = malloc(sizeof(mst_wait));
  }
  return commands->waits[commands->wait_count];
}

int32_t mst_encode_wait(mst_queue *queue, uint64_t value, mst_queue *awaited_queue, uint64_t awaited_value) {
  MST_ENTER(mst_encode_wait);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  if (!mst_is(awaited_queue, MST_TAG_QUEUE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the awaited queue is not a queue");
  }
  if (awaited_queue->device != queue->device) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the awaited queue belongs to another device");
  }
  uint64_t committed = atomic_load_explicit(&awaited_queue->committed, memory_order_acquire);
  if (awaited_value > committed && !mst_queue_is_host(awaited_queue)) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of queue %llu is not committed (the last is %llu)",
                    (unsigned long long)awaited_value, (unsigned long long)awaited_queue->id,
                    (unsigned long long)committed);
  }
  if (awaited_queue == queue) {
    return MST_OK;
  }
  if (mst_queue_completed(awaited_queue) >= awaited_value) {
    uint64_t failed = mst_queue_failed_value(awaited_queue);
    if (failed == 0 || failed > awaited_value) {
      return MST_OK;
    }
  }
  mst_op *op = next_op(commands);
  mst_wait *wait = next_wait(commands);
  if (op == NULL || wait == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an operation");
  }
  wait->queue = queue;
  wait->awaited = awaited_queue;
  wait->value = awaited_value;
  mst_lock(queue->device);
  bool never = awaited_queue->ended && mst_queue_completed(awaited_queue) < awaited_value;
  if (!never) {
    mst_queue_register_wait(wait);
  }
  mst_unlock(queue->device);
  if (never) {
    return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu of host queue %llu is signalled no more: the device is closed",
                    (unsigned long long)awaited_value, (unsigned long long)awaited_queue->id);
  }
  commands->wait_count++;
  op->kind = MST_OP_WAIT;
  op->as.wait = wait;
  commands->op_count++;
  return MST_OK;
}

/* Whether `buffer` may be used on `queue`, from offset on for length bytes; else an error. */
static int32_t check_range(const mst_queue *queue, const mst_buffer *buffer, uint64_t offset, uint64_t length,
                           const char *function) {
  if (!mst_is(buffer, MST_TAG_BUFFER)) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "not a buffer");
  }
  if (buffer->device != queue->device) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "a buffer belongs to another device");
  }
  if (offset > buffer->bytes || length > buffer->bytes - offset) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function,
                     "%llu bytes from offset %llu do not fit into a buffer of %llu", (unsigned long long)length,
                     (unsigned long long)offset, (unsigned long long)buffer->bytes);
  }
  return MST_OK;
}

static int32_t fail_ending(const char *function) {
  return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "a buffer is being destroyed");
}

int32_t mst_encode_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                        uint8_t byte) {
  MST_ENTER(mst_encode_fill);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  status = check_range(queue, buffer, offset, length, __func__);
  if (status != MST_OK) {
    return status;
  }
  mst_op *op = next_op(commands);
  if (op == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an operation");
  }
  if (!mst_buffer_use(buffer)) {
    return fail_ending(__func__);
  }
  op->kind = MST_OP_FILL;
  op->byte = byte;
  op->as.fill.buffer = buffer;
  op->as.fill.offset = offset;
  op->as.fill.length = length;
  commands->op_count++;
  return MST_OK;
}

int32_t mst_encode_copy(mst_queue *queue, uint64_t value, mst_buffer *source, uint64_t source_offset,
                        mst_buffer *target, uint64_t target_offset, uint64_t length) {
  MST_ENTER(mst_encode_copy);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  status = check_range(queue, source, source_offset, length, __func__);
  if (status == MST_OK) {
    status = check_range(queue, target, target_offset, length, __func__);
  }
  if (status != MST_OK) {
    return status;
  }
  if (source == target && source_offset < target_offset + length && target_offset < source_offset + length) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the ranges overlap: %llu bytes from %llu and from %llu",
                    (unsigned long long)length, (unsigned long long)source_offset, (unsigned long long)target_offset);
  }
  mst_op *op = next_op(commands);
  if (op == NULL) {
    return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an operation");
  }
  if (!mst_buffer_use(source)) {
    return fail_ending(__func__);
  }
  if (!mst_buffer_use(target)) {
    mst_buffer_unuse(source);
    return fail_ending(__func__);
  }
  op->kind = MST_OP_COPY;
  op->as.copy.source = source;
  op->as.copy.target = target;
  op->as.copy.source_offset = source_offset;
  op->as.copy.target_offset = target_offset;
  op->as.copy.length = length;
  commands->op_count++;
  return MST_OK;
}

/* The next operation, with these buffers in use as its arguments, which counts once op_count is raised; NULL and an error
 * if that is not possible. */
static mst_op *next_op_with(mst_commands *commands, mst_buffer *const *buffers, uint32_t count, const char *function,
                            int32_t *status) {
  mst_op *op = next_op(commands);
  if (op == NULL || !grow((void **)&commands->arguments, commands->argument_count, count, &commands->argument_capacity,
                          sizeof(mst_buffer *))) {
    *status = mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for an operation");
    return NULL;
  }
  mst_buffer **arguments = commands->arguments + commands->argument_count;
  for (uint32_t i = 0; i < count; i++) {
    if (!mst_buffer_use(buffers[i])) {
      while (i > 0) {
        mst_buffer_unuse(buffers[--i]);
      }
      *status = fail_ending(function);
      return NULL;
    }
    arguments[i] = buffers[i];
  }
  op->count = count;
  op->first_argument = commands->argument_count;
  commands->argument_count += count;
  return op;
}

int32_t mst_encode_executable(mst_queue *queue, uint64_t value, mst_executable *executable, mst_buffer *const *buffers,
                              int32_t count, uint32_t flags) {
  MST_ENTER(mst_encode_executable);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  if (!mst_is(executable, MST_TAG_EXECUTABLE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not an executable");
  }
  if (executable->device != queue->device) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the executable belongs to another device");
  }
  if (buffers == NULL || count < 0 || (uint32_t)count != executable->argument_count) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%d buffers were given, the executable takes %u inputs and %u outputs",
                    count, executable->input_count, executable->argument_count - executable->input_count);
  }
  for (int32_t i = 0; i < count; i++) {
    status = check_range(queue, buffers[i], 0, executable->argument_bytes[i], __func__);
    if (status != MST_OK) {
      return status;
    }
  }
  for (int32_t i = (int32_t)executable->input_count; i < count; i++) {
    for (int32_t j = 0; j < i; j++) {
      if (buffers[i] == buffers[j]) {
        return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "buffer %d, an output, is buffer %d as well", i, j);
      }
    }
  }
  if ((flags & ~(uint32_t)MST_ENCODE_SOLE) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  mst_op *op = next_op_with(commands, buffers, (uint32_t)count, __func__, &status);
  if (op == NULL) {
    return status;
  }
  mst_executable_retain(executable);
  op->kind = MST_OP_EXECUTABLE;
  op->as.executable = executable;
  commands->op_count++;
  atomic_fetch_add_explicit(&queue->device->matmuls, executable->matmul_count, memory_order_relaxed);
  return MST_OK;
}

int32_t mst_encode_layer_norm(mst_queue *queue, uint64_t value, mst_buffer *x, mst_buffer *gamma, mst_buffer *beta,
                              mst_buffer *y, uint64_t rows, uint64_t columns, float eps) {
  MST_ENTER(mst_encode_layer_norm);
  int32_t status = MST_OK;
  mst_commands *commands = find_open(queue, value, __func__, &status);
  if (commands == NULL) {
    return status;
  }
  if (rows < 1 || rows > UINT32_MAX || columns < 1 || columns > UINT32_MAX || !isfinite(eps) || eps < 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu rows of %llu columns with eps %g", (unsigned long long)rows,
                    (unsigned long long)columns, (double)eps);
  }
  uint64_t row_bytes = columns * sizeof(float);
  if (rows > UINT64_MAX / row_bytes) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "%llu rows of %llu columns overflow", (unsigned long long)rows,
                    (unsigned long long)columns);
  }
  mst_buffer *buffers[] = {x, gamma, beta, y};
  const uint64_t bytes[] = {rows * row_bytes, row_bytes, row_bytes, rows * row_bytes};
  for (int i = 0; i < 4; i++) {
    status = check_range(queue, buffers[i], 0, bytes[i], __func__);
    if (status != MST_OK) {
      return status;
    }
    if (i < 3 && buffers[i] == y) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "y is an input as well");
    }
  }
  mst_op *op = next_op_with(commands, buffers, 4, __func__, &status);
  if (op == NULL) {
    return status;
  }
  op->kind = MST_OP_LAYER_NORM;
  op->as.layer_norm.rows = rows;
  op->as.layer_norm.columns = columns;
  op->as.layer_norm.eps = eps;
  commands->op_count++;
  atomic_fetch_add_explicit(&queue->device->layer_norms, 1, memory_order_relaxed);
  return MST_OK;
}

/* ---------------------------------------------------------------------------------------------------- execution --- */

mst_wait *mst_commands_wait(const mst_commands *commands) {
  return commands->ops[commands->next_op].as.wait;
}

static void fail_commands(mst_commands *commands, int32_t status, const char *reason) {
  commands->status = status;
  commands->reason = reason;
}

static void run_op(mst_commands *commands, const mst_op *op) {
  switch (op->kind) {
    case MST_OP_FILL:
      memset(op->as.fill.buffer->contents + op->as.fill.offset, op->byte, (size_t)op->as.fill.length);
      break;
    case MST_OP_COPY:
      memcpy(op->as.copy.target->contents + op->as.copy.target_offset,
             op->as.copy.source->contents + op->as.copy.source_offset, (size_t)op->as.copy.length);
      break;
    case MST_OP_LAYER_NORM: {
      mst_buffer **arguments = commands->arguments + op->first_argument;
      mst_vector()->layer_norm((const float *)arguments[0]->contents, (const float *)arguments[1]->contents,
                               (const float *)arguments[2]->contents, op->as.layer_norm.eps,
                               (float *)arguments[3]->contents, (int64_t)op->as.layer_norm.rows,
                               (int64_t)op->as.layer_norm.columns);
      break;
    }
    default:
      if (!mst_executable_run(op->as.executable, commands->arguments + op->first_argument)) {
        fail_commands(commands, MST_ERROR_OUT_OF_MEMORY, "no memory for the intermediate results of an executable");
      }
      break;
  }
}

/* Before the first operation that is not a wait, or before the end: from here on it counts as executed. */
static void begin_execution(mst_commands *commands) {
  mst_device *device = commands->queue->device;
  commands->begun = true;
  int32_t ordered = mst_injected(MST_FAILABLE_execute);
  if (ordered == MST_ERROR_DEVICE_LOST) {
    atomic_store_explicit(&device->lost, true, memory_order_relaxed);
  }
  if (atomic_load_explicit(&device->lost, memory_order_relaxed)) {
    fail_commands(commands, MST_ERROR_DEVICE_LOST, "the device is lost");
    return;
  }
  commands->start_ns = mst_now();
  if (ordered != MST_OK) {
    fail_commands(commands, ordered, "failure ordered by a test");
  }
}

/* Passes a wait; false if it is unresolved. */
static bool pass_wait(mst_commands *commands, const mst_wait *wait) {
  if (!atomic_load_explicit(&wait->resolved, memory_order_acquire)) {
    return false;
  }
  if (wait->failure.value != 0 && commands->status == MST_OK) {
    commands->status = MST_ERROR_DEPENDENCY;
    commands->cause = wait->failure;
  }
  commands->next_op++;
  return true;
}

/* A failed command buffer runs nothing more, but passes the waits that it has left: who waits for its end relies on what
 * it waited for. */
enum mst_run_outcome mst_commands_run(mst_commands *commands, uint64_t deadline) {
  for (;;) {
    const mst_op *op = commands->next_op < commands->op_count ? &commands->ops[commands->next_op] : NULL;
    if (op != NULL && op->kind == MST_OP_WAIT) {
      if (!pass_wait(commands, op->as.wait)) {
        return MST_RUN_WAIT;
      }
    } else if (commands->status == MST_OK && !commands->begun) {
      begin_execution(commands);
    } else if (op == NULL) {
      break;
    } else {
      if (commands->status == MST_OK) {
        run_op(commands, op);
      }
      commands->next_op++;
      if (deadline != MST_NEVER && commands->next_op < commands->op_count && mst_now() >= deadline) {
        return MST_RUN_PAUSED;
      }
    }
  }
  if (commands->start_ns != 0) {
    commands->end_ns = mst_now();
  }
  return MST_RUN_DONE;
}
