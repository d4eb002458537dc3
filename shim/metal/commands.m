/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Command buffers: how one of ours maps to Metal's.
 *
 * A value is one MSTCommandBuffer, which has one *root* MTLCommandBuffer at a time. Usually that is all: it is created
 * by begin, and committed by commit after the signal of the value was encoded. But an encode by MPSGraph may commit the
 * root and continue with a new one, any number of times. Therefore
 *
 *   1. The live root is asked for anew before each operation (mst_commands_root), never kept.
 *   2. Every root has a completion handler of ours before it is committed: the live one is watched before each encode
 *      that may commit it, those that come and go within one encode by -[MSTCommandBuffer commitAndContinue]. Metal
 *      aborts on a handler that is added later.
 *   3. A value is executed when all its roots are done, and an error of any of them is its error.
 *   4. Roots that were committed early cannot be called back: a discarded value leaves them to run, and what they use
 *      stays in use until they are done.
 *
 * The handler of a root that is never committed may never be released, so roots are watched late: a value that is
 * discarded before anything was encoded by MPSGraph has none.
 *
 * Encoders never outlive the function that opens them, so no encoder is open between two calls, and waits and signals,
 * which need that, can be encoded at any time. */
#include "commands.h"

#include <stdlib.h>

#include "buffer.h"
#include "device.h"
#include "error.h"
#include "executable.h"
#include "kernels.h"
#include "queue.h"

/* One blit of 4 GiB fails without an error; those of 1 GiB are far from whatever the limit is. */
static const uint64_t MOST_PER_BLIT = 1u << 30;

/* On macOS the ranges of a blit begin and end at multiples of this. */
static const uint64_t BLIT_ALIGNMENT = 4;

@implementation MSTCommandBuffer

- (void)commitAndContinue {
  if (commands != NULL) {
    mst_commands_watch(commands);
  }
  [super commitAndContinue];
}

@end

/* -------------------------------------------------------------------------------------------- storage and ends ---- */

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

/* Frees a command buffer of which Metal runs nothing any more. Lock not held. */
static void free_commands(mst_commands *commands) {
  for (uint32_t i = 0; i < commands->buffer_count; i++) {
    mst_buffer_unuse(commands->buffers[i]);
  }
  for (uint32_t i = 0; i < commands->executable_count; i++) {
    mst_executable_release(commands->executables[i]);
  }
  mst_wait *later = NULL;
  for (mst_wait *wait = commands->waits; wait != NULL; wait = later) {
    later = wait->later;
    [wait->event release];
    free(wait);
  }
  free(commands->buffers);
  free(commands->executables);
  free(commands);
}

void mst_commands_end(mst_commands *published) {
  mst_commands *next = NULL;
  for (mst_commands *commands = published; commands != NULL; commands = next) {
    next = commands->next;
    if (commands->unsignalled != nil) {
      mst_queue_raise(commands->unsignalled, commands->value);
      [commands->unsignalled release];
    }
    free_commands(commands);
  }
}

/* Gives up the encoding side's hold on Metal's objects. */
static void let_go(mst_commands *commands) {
  commands->metal->commands = NULL;
  [commands->metal release];
  commands->metal = nil;
  [commands->watched release];
  commands->watched = nil;
}

/* ------------------------------------------------------------------------------------------------------ handlers -- */

/* Adds the result of a root to its command buffer. Lock held. */
static void record_root(mst_commands *commands, int32_t status, const char *message, uint64_t start_ns,
                        uint64_t end_ns) {
  if (status != MST_OK && commands->status == MST_OK) {
    commands->status = status;
    mst_copy_text(commands->message, sizeof(commands->message), message);
  }
  if (end_ns > 0) {
    commands->start_ns = commands->start_ns == 0 || start_ns < commands->start_ns ? start_ns : commands->start_ns;
    commands->end_ns = end_ns > commands->end_ns ? end_ns : commands->end_ns;
  }
  commands->roots--;
}

/* Metal's completion handler: runs on a thread of Metal's, for each root. */
static void root_completed(mst_commands *commands, id<MTLCommandBuffer> root) {
  mst_queue *queue = commands->queue;
  mst_device *device = queue->device;
  mst_device_retain(device); /* once it is published, commands, queue and device may end before this function does */
  int32_t status = MST_OK;
  char message[sizeof(commands->message)] = "";
  if (root.status == MTLCommandBufferStatusError || root.error != nil) {
    status = mst_status_of_error(root.error);
    mst_describe_error(root.error, message, sizeof(message));
  }
  uint64_t start_ns = (uint64_t)(root.GPUStartTime * 1e9);
  uint64_t end_ns = (uint64_t)(root.GPUEndTime * 1e9);
  atomic_fetch_sub_explicit(&queue->roots, 1, memory_order_relaxed);

  mst_commands *published = NULL;
  mst_commands *orphan = NULL;
  mst_lock(device);
  device->handlers++;
  record_root(commands, status, message, start_ns, end_ns);
  if (commands->discarded && commands->roots == 0) {
    orphan = commands;
    queue->orphans--;
    device->unfinished--;
    if (queue->visitors > 0) {
      pthread_cond_broadcast(&queue->changed);
    }
  } else if (queue->first != NULL) {
    mst_queue_publish(queue, &published);
  }
  mst_unlock(device);

  mst_commands_end(published);
  if (orphan != NULL) {
    free_commands(orphan);
  }
  mst_lock(device);
  device->handlers--;
  mst_device_consider_idle(device);
  mst_unlock(device);
  mst_device_release(device);
}

void mst_commands_watch(mst_commands *commands) {
  id<MTLCommandBuffer> root = mst_commands_root(commands);
  if (root == commands->watched) {
    return;
  }
  mst_queue *queue = commands->queue;
  if (commands->watched != nil) {
    atomic_fetch_add_explicit(&queue->device->early_commits, 1, memory_order_relaxed);
  }
  /* Retained, or the next root might be born at the same address and pass for this one. */
  [commands->watched release];
  commands->watched = [root retain];
  atomic_fetch_add_explicit(&queue->roots, 1, memory_order_relaxed);
  mst_lock(queue->device);
  commands->roots++;
  mst_unlock(queue->device);
  [root addCompletedHandler:^(id<MTLCommandBuffer> completed) {
    @autoreleasepool {
      root_completed(commands, completed);
    }
  }];
}

/* ------------------------------------------------------------------------------------- begin, commit, discard ----- */

mst_commands *mst_commands_find_open(mst_queue *queue, uint64_t value, const char *function, int32_t *status) {
  if (!mst_is(queue, MST_TAG_QUEUE)) {
    *status = mst_error(MST_ERROR_INVALID_ARGUMENT, function, "not a queue");
    return NULL;
  }
  if (value == 0 || queue->open == NULL || queue->open->value != value) {
    uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_relaxed);
    const char *what = mst_queue_is_host(queue) ? "the queue is a host queue"
                       : value == 0             ? "0 is not a value"
                       : value <= committed     ? "it is committed"
                       : value == committed + 1 ? "it was not begun"
                                                : "it is not the next value";
    *status = mst_error(MST_ERROR_INVALID_STATE, function, "command buffer %llu of queue %llu is not open: %s",
                        (unsigned long long)value, (unsigned long long)queue->id, what);
    return NULL;
  }
  *status = MST_OK;
  return queue->open;
}

/* The wrapper for the next command buffer, owned by the caller; nil if Metal gives none. */
static MSTCommandBuffer *next_wrapper(mst_queue *queue) {
  MSTCommandBuffer *wrapper = queue->continued;
  if (wrapper != nil) {
    queue->continued = nil;
    return wrapper;
  }
  id<MTLCommandBuffer> root = [queue->metal commandBuffer];
  if (root == nil) {
    return nil;
  }
  return [[MSTCommandBuffer alloc] initWithCommandBuffer:root];
}

int32_t mst_commands_begin(mst_queue *queue, uint64_t value) {
  @autoreleasepool {
    if (!mst_is(queue, MST_TAG_QUEUE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a queue");
    }
    if (mst_queue_is_host(queue)) {
      return MST_FAIL(MST_ERROR_INVALID_STATE, "queue %llu is a host queue", (unsigned long long)queue->id);
    }
    if (queue->open != NULL) {
      return MST_FAIL(MST_ERROR_INVALID_STATE, "command buffer %llu of queue %llu is open",
                      (unsigned long long)queue->open->value, (unsigned long long)queue->id);
    }
    uint64_t committed = atomic_load_explicit(&queue->committed, memory_order_relaxed);
    if (value != committed + 1) {
      return MST_FAIL(MST_ERROR_INVALID_STATE, "value %llu is not the next of queue %llu, %llu",
                      (unsigned long long)value, (unsigned long long)queue->id, (unsigned long long)committed + 1);
    }
    if (atomic_load_explicit(&queue->device->closed, memory_order_relaxed)) {
      return MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed");
    }
    if (committed - mst_queue_completed(queue) >= queue->max_in_flight ||
        atomic_load_explicit(&queue->roots, memory_order_relaxed) >= MST_MOST_ROOTS / 2) {
      return MST_FAIL(MST_ERROR_BUSY, "queue %llu has %llu uncompleted command buffers of at most %u",
                      (unsigned long long)queue->id, (unsigned long long)(committed - mst_queue_completed(queue)),
                      queue->max_in_flight);
    }
    mst_commands *commands = calloc(1, sizeof(mst_commands));
    MSTCommandBuffer *wrapper = commands == NULL ? nil : next_wrapper(queue);
    if (wrapper == nil) {
      free(commands);
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a command buffer");
    }
    commands->queue = queue;
    commands->value = value;
    commands->metal = wrapper;
    wrapper->commands = commands;
    queue->open = commands;
    return MST_OK;
  }
}

int32_t mst_commands_commit(mst_queue *queue, uint64_t value, uint32_t flags) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
    if (commands == NULL) {
      return status;
    }
    if ((flags & ~(uint32_t)(MST_COMMIT_WAITING | MST_COMMIT_CONTINUE)) != 0) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
    }
    mst_device *device = queue->device;
    mst_lock(device);
    bool closed = atomic_load_explicit(&device->closed, memory_order_relaxed);
    bool reserved = !closed && mst_completions_reserve(&device->completions);
    if (reserved) {
      device->unfinished++;
    }
    mst_unlock(device);
    if (!reserved) {
      return closed ? MST_FAIL(MST_ERROR_INVALID_STATE, "the device is closed")
                    : MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a completion");
    }
    mst_commands_watch(commands);
    MSTCommandBuffer *wrapper = [[commands->metal retain] autorelease];
    id<MTLCommandBuffer> root = commands->watched;
    [root encodeSignalEvent:queue->event value:value];
    [[root retain] autorelease];
    let_go(commands);
    queue->open = NULL;

    /* From here on others may wait for the value, on the CPU and, before it is committed, on the GPU. */
    mst_lock(device);
    if (queue->last == NULL) {
      queue->first = commands;
    } else {
      queue->last->next = commands;
    }
    queue->last = commands;
    atomic_store_explicit(&queue->committed, value, memory_order_release);
    mst_unlock(device);

    if ((flags & MST_COMMIT_CONTINUE) != 0) {
      queue->continued = [wrapper retain];
      [wrapper commitAndContinue];
    } else {
      [root commit];
    }
    return MST_OK;
  }
}

/* Takes a wait that may be unresolved off its list. Lock held. */
static void unlink_wait(mst_wait *wait) {
  if (wait->resolved) {
    return;
  }
  *(wait->previous != NULL ? &wait->previous->next : &wait->awaited->waits) = wait->next;
  if (wait->next != NULL) {
    wait->next->previous = wait->previous;
  }
}

void mst_commands_drop_open(mst_queue *queue) {
  mst_commands *commands = queue->open;
  if (commands == NULL) {
    return;
  }
  queue->open = NULL;
  mst_device *device = queue->device;
  bool watched = commands->watched == mst_commands_root(commands);
  let_go(commands);
  mst_lock(device);
  for (mst_wait *wait = commands->waits; wait != NULL; wait = wait->later) {
    unlink_wait(wait);
  }
  if (watched) { /* the live root, which never runs */
    commands->roots--;
    atomic_fetch_sub_explicit(&queue->roots, 1, memory_order_relaxed);
  }
  bool running = commands->roots > 0;
  if (running) {
    commands->discarded = true; /* the last handler frees it */
    queue->orphans++;
    device->unfinished++;
  }
  mst_unlock(device);
  if (!running) {
    free_commands(commands);
  }
}

int32_t mst_commands_discard(mst_queue *queue, uint64_t value) {
  @autoreleasepool {
    int32_t status = MST_OK;
    if (mst_commands_find_open(queue, value, __func__, &status) == NULL) {
      return status;
    }
    mst_commands_drop_open(queue);
    return MST_OK;
  }
}

/* ------------------------------------------------------------------------------------------------- encode: waits -- */

void mst_wait_resolve(mst_wait *wait, mst_cause failure) {
  unlink_wait(wait);
  wait->resolved = true;
  wait->failure = wait->moot ? (mst_cause){0, 0} : failure;
  mst_commands *commands = wait->commands;
  commands->unresolved--;
  if (commands->unresolved > 0) {
    return;
  }
  for (wait = commands->waits; wait != NULL && commands->cause.value == 0; wait = wait->later) {
    commands->cause = wait->failure;
  }
  if (commands->cause.value == 0) {
    commands->cause = commands->dependency;
  }
}

/* Puts the wait on the awaited queue's list. Lock held. */
static void link_wait(mst_wait *wait) {
  mst_commands *commands = wait->commands;
  wait->next = wait->awaited->waits;
  if (wait->next != NULL) {
    wait->next->previous = wait;
  }
  wait->awaited->waits = wait;
  if (commands->last_wait == NULL) {
    commands->waits = wait;
  } else {
    commands->last_wait->later = wait;
  }
  commands->last_wait = wait;
  commands->unresolved++;
}

int32_t mst_encode_wait(mst_queue *queue, uint64_t value, mst_queue *awaited_queue, uint64_t awaited_value) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
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
    mst_wait *wait = calloc(1, sizeof(mst_wait));
    if (wait == NULL) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an operation");
    }
    wait->commands = commands;
    wait->awaited = awaited_queue;
    wait->value = awaited_value;
    mst_lock(queue->device);
    bool completed = mst_queue_completed(awaited_queue) >= awaited_value;
    bool never = awaited_queue->ended && !completed;
    if (never) {
      /* Nothing to note. */
    } else if (completed && commands->dependency.value == 0) {
      commands->dependency = mst_queue_failure_for(awaited_queue, awaited_value);
      if (commands->unresolved == 0 && commands->cause.value == 0) {
        commands->cause = commands->dependency;
      }
    } else if (!completed) {
      wait->moot = commands->dependency.value != 0;
      wait->event = [awaited_queue->event retain];
      link_wait(wait);
    }
    mst_unlock(queue->device);
    if (never) {
      free(wait);
      return MST_FAIL(MST_ERROR_INVALID_STATE,
                      "value %llu of host queue %llu is signalled no more: the device is closed",
                      (unsigned long long)awaited_value, (unsigned long long)awaited_queue->id);
    }
    if (completed) {
      free(wait);
    } else {
      [mst_commands_root(commands) encodeWaitForEvent:awaited_queue->event value:awaited_value];
    }
    return MST_OK;
  }
}

/* ------------------------------------------------------------------------------------- encode: fill and copy ------ */

int32_t mst_commands_check_range(const mst_queue *queue, const mst_buffer *buffer, uint64_t offset, uint64_t length,
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

int32_t mst_commands_use(mst_commands *commands, mst_buffer *const *buffers, uint32_t count, const char *function) {
  if (!grow((void **)&commands->buffers, commands->buffer_count, count, &commands->buffer_capacity,
            sizeof(mst_buffer *))) {
    return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for an operation");
  }
  for (uint32_t i = 0; i < count; i++) {
    if (!mst_buffer_use(buffers[i])) {
      mst_commands_unuse(commands, i);
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "a buffer is being destroyed");
    }
    commands->buffers[commands->buffer_count++] = buffers[i];
  }
  return MST_OK;
}

bool mst_commands_keep(mst_commands *commands, mst_executable *executable) {
  if (!grow((void **)&commands->executables, commands->executable_count, 1, &commands->executable_capacity,
            sizeof(mst_executable *))) {
    return false;
  }
  mst_executable_retain(executable);
  commands->executables[commands->executable_count++] = executable;
  return true;
}

void mst_commands_unuse(mst_commands *commands, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    mst_buffer_unuse(commands->buffers[--commands->buffer_count]);
  }
}

/* The part of a range that a blit can do, between two edges of less than BLIT_ALIGNMENT bytes. */
typedef struct mst_parts {
  uint64_t head;
  uint64_t middle;
  uint64_t tail;
} mst_parts;

static mst_parts split(uint64_t offset, uint64_t length) {
  uint64_t head = (BLIT_ALIGNMENT - offset % BLIT_ALIGNMENT) % BLIT_ALIGNMENT;
  if (head > length) {
    head = length;
  }
  uint64_t tail = (length - head) % BLIT_ALIGNMENT;
  return (mst_parts){head, length - head - tail, tail};
}

static void blit_fill(mst_commands *commands, mst_buffer *buffer, uint64_t offset, uint64_t length, uint8_t byte) {
  id<MTLBlitCommandEncoder> encoder = [mst_commands_root(commands) blitCommandEncoder];
  for (uint64_t done = 0; done < length; done += MOST_PER_BLIT) {
    uint64_t part = length - done < MOST_PER_BLIT ? length - done : MOST_PER_BLIT;
    [encoder fillBuffer:buffer->metal range:NSMakeRange((NSUInteger)(offset + done), (NSUInteger)part) value:byte];
  }
  [encoder endEncoding];
}

int32_t mst_encode_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                        uint8_t byte) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
    if (commands == NULL) {
      return status;
    }
    status = mst_commands_check_range(queue, buffer, offset, length, __func__);
    if (status == MST_OK) {
      status = mst_commands_use(commands, &buffer, 1, __func__);
    }
    if (status != MST_OK || commands->dependency.value != 0) {
      return status;
    }
    mst_parts parts = split(offset, length);
    if (parts.head + parts.tail > 0) {
      const mst_byte_span spans[] = {{offset, 0, parts.head, byte},
                                     {offset + parts.head + parts.middle, 0, parts.tail, byte}};
      status = mst_encode_bytes(commands, NULL, buffer, spans, 2, __func__);
      if (status != MST_OK) {
        mst_commands_unuse(commands, 1);
        return status;
      }
    }
    if (parts.middle > 0) {
      blit_fill(commands, buffer, offset + parts.head, parts.middle, byte);
    }
    return MST_OK;
  }
}

static void blit_copy(mst_commands *commands, mst_buffer *source, uint64_t source_offset, mst_buffer *target,
                      uint64_t target_offset, uint64_t length) {
  id<MTLBlitCommandEncoder> encoder = [mst_commands_root(commands) blitCommandEncoder];
  for (uint64_t done = 0; done < length; done += MOST_PER_BLIT) {
    uint64_t part = length - done < MOST_PER_BLIT ? length - done : MOST_PER_BLIT;
    [encoder copyFromBuffer:source->metal
               sourceOffset:(NSUInteger)(source_offset + done)
                   toBuffer:target->metal
          destinationOffset:(NSUInteger)(target_offset + done)
                       size:(NSUInteger)part];
  }
  [encoder endEncoding];
}

int32_t mst_encode_copy(mst_queue *queue, uint64_t value, mst_buffer *source, uint64_t source_offset,
                        mst_buffer *target, uint64_t target_offset, uint64_t length) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
    if (commands == NULL) {
      return status;
    }
    status = mst_commands_check_range(queue, source, source_offset, length, __func__);
    if (status == MST_OK) {
      status = mst_commands_check_range(queue, target, target_offset, length, __func__);
    }
    if (status != MST_OK) {
      return status;
    }
    if (source == target && source_offset < target_offset + length && target_offset < source_offset + length) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "the ranges overlap: %llu bytes from %llu and from %llu",
                      (unsigned long long)length, (unsigned long long)source_offset, (unsigned long long)target_offset);
    }
    mst_buffer *both[] = {source, target};
    status = mst_commands_use(commands, both, 2, __func__);
    if (status != MST_OK || commands->dependency.value != 0) {
      return status;
    }
    /* A blit needs both offsets aligned: it does the middle if they are misaligned alike, else nothing. */
    mst_parts parts = split(target_offset, length);
    if (source_offset % BLIT_ALIGNMENT != target_offset % BLIT_ALIGNMENT) {
      parts = (mst_parts){length, 0, 0};
    }
    if (parts.head + parts.tail > 0) {
      uint64_t last = parts.head + parts.middle;
      const mst_byte_span spans[] = {{target_offset, source_offset, parts.head, 0},
                                     {target_offset + last, source_offset + last, parts.tail, 0}};
      status = mst_encode_bytes(commands, source, target, spans, 2, __func__);
      if (status != MST_OK) {
        mst_commands_unuse(commands, 2);
        return status;
      }
    }
    if (parts.middle > 0) {
      blit_copy(commands, source, source_offset + parts.head, target, target_offset + parts.head, parts.middle);
    }
    return MST_OK;
  }
}
