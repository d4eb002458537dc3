/*
 * Simulated Metal: buffers, and the check that their uses are ordered.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "metal.h"

/* A range that a queue read or wrote at one of its ticks. */
struct sim_use {
  int queue;
  uint64_t tick;
  NSUInteger from;
  NSUInteger to;
  bool write;
};

enum { PAGE = 16384, PATTERN = 0xFF, PATTERN_LIMIT = 16 << 20 };

SimBuffer *sim_buffer(id<MTLBuffer> buffer, const char *what) {
  if (buffer == nil)
    sim_stop("%s: no buffer", what);
  if (![(NSObject *)buffer isKindOfClass:[SimBuffer class]])
    sim_stop("%s: not a buffer of this device", what);
  return (SimBuffer *)buffer;
}

@implementation SimBuffer

- (instancetype)initWithDevice:(SimDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
  self = [super init];
  if (length == 0)
    sim_stop("a buffer of length 0");
  if (length > [device maxBufferLength])
    sim_stop("a buffer of %llu bytes is longer than maxBufferLength", (unsigned long long)length);
  _device = [device retain];
  _length = length;
  _options = options;
  pthread_mutex_init(&_lock, NULL);
  pthread_rwlock_init(&_access, NULL);
  uint64_t before = atomic_fetch_add(&device->_allocated, length);
  int64_t limit = sim_switches.memory_limit;
  if (limit > 0 && before + length > (uint64_t)limit) {
    [self release];
    return nil;
  }
  if (posix_memalign((void **)&_bytes, PAGE, (length + PAGE - 1) / PAGE * PAGE) != 0) {
    _bytes = NULL;
    [self release];
    return nil;
  }
  /* Not zeros: whoever reads what nobody wrote gets NaN. */
  memset(_bytes, PATTERN, length < PATTERN_LIMIT ? length : PATTERN_LIMIT);
  return self;
}

- (void)dealloc {
  if (_users > 0)
    sim_stop("buffer \"%s\" was freed while %lld command buffers use it", sim_text(_label), (long long)_users);
  atomic_fetch_sub(&_device->_allocated, _length);
  free(_bytes);
  free(_uses);
  pthread_rwlock_destroy(&_access);
  pthread_mutex_destroy(&_lock);
  [_label release];
  [_device release];
  [super dealloc];
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (id<MTLDevice>)device {
  return _device;
}

- (NSUInteger)length {
  return _length;
}

- (NSUInteger)allocatedSize {
  return _length;
}

- (MTLStorageMode)storageMode {
  return (MTLStorageMode)((_options >> 4) & 0xF);
}

- (MTLResourceOptions)resourceOptions {
  return _options;
}

- (void *)contents {
  return [self storageMode] == MTLStorageModePrivate ? NULL : _bytes;
}

- (void)checkRange:(NSUInteger)offset length:(NSUInteger)length in:(const char *)what {
  if (offset > _length || length > _length - offset)
    sim_stop("%s: range %llu + %llu exceeds buffer \"%s\" of %llu bytes", what, (unsigned long long)offset,
             (unsigned long long)length, sim_text(_label), (unsigned long long)_length);
}

@end

/* ------------------------------------------------------------------------------------------------- access --------- */

static bool overlap(const struct sim_use *a, const struct sim_use *b) {
  return a->from < b->to && b->from < a->to;
}

/* Whether the older use needs to be known no longer: it is covered by the newer one, or the CPU has seen its end. */
static bool is_past(const struct sim_use *older, const struct sim_use *newer, const sim_clock *seen) {
  if (older->queue == newer->queue)
    return older->write == newer->write && older->from >= newer->from && older->to <= newer->to;
  return older->tick <= seen->tick[older->queue];
}

/* The lock is held. */
static void remember(SimBuffer *buffer, struct sim_use use) {
  sim_clock seen = {{0}};
  sim_clock_read_seen(&seen);
  int kept = 0;
  for (int i = 0; i < buffer->_use_count; i++) {
    if (!is_past(&buffer->_uses[i], &use, &seen))
      buffer->_uses[kept++] = buffer->_uses[i];
  }
  buffer->_uses = realloc(buffer->_uses, (size_t)(kept + 1) * sizeof use);
  if (buffer->_uses == NULL)
    sim_stop("no memory for the uses of a buffer");
  buffer->_uses[kept] = use;
  buffer->_use_count = kept + 1;
}

void sim_access_check(struct sim_access access, struct sim_run *run) {
  if (!sim_switches.hazards || access.length == 0)
    return;
  SimBuffer *buffer = access.buffer;
  struct sim_use use = {run->queue, run->tick, access.offset, access.offset + access.length, access.write};
  pthread_mutex_lock(&buffer->_lock);
  for (int i = 0; i < buffer->_use_count; i++) {
    const struct sim_use *other = &buffer->_uses[i];
    if (other->queue != use.queue && (other->write || use.write) && overlap(other, &use) &&
        other->tick > run->clock.tick[other->queue])
      sim_stop("buffer \"%s\" of %llu bytes is %s by one queue in no order with its %s by another",
               sim_text(buffer->_label), (unsigned long long)buffer->_length, use.write ? "written" : "read",
               other->write ? "write" : "read");
  }
  remember(buffer, use);
  pthread_mutex_unlock(&buffer->_lock);
}

/* The accesses in the order in which all threads lock: one per buffer, a write where there is any. */
static int sorted(const struct sim_access *accesses, int count, struct sim_access result[SIM_MAX_ACCESSES]) {
  int unique = 0;
  if (count > SIM_MAX_ACCESSES)
    sim_stop("a command with %d buffers", count);
  for (int i = 0; i < count; i++) {
    int at = 0;
    while (at < unique && (uintptr_t)result[at].buffer < (uintptr_t)accesses[i].buffer)
      at++;
    if (at < unique && result[at].buffer == accesses[i].buffer) {
      result[at].write |= accesses[i].write;
    } else {
      memmove(&result[at + 1], &result[at], (size_t)(unique - at) * sizeof *result);
      result[at] = accesses[i];
      unique++;
    }
  }
  return unique;
}

void sim_access_begin(const struct sim_access *accesses, int count, struct sim_run *run) {
  struct sim_access order[SIM_MAX_ACCESSES];
  int unique = sorted(accesses, count, order);
  for (int i = 0; i < unique; i++) {
    if (order[i].write)
      pthread_rwlock_wrlock(&order[i].buffer->_access);
    else
      pthread_rwlock_rdlock(&order[i].buffer->_access);
  }
  for (int i = 0; i < count; i++)
    sim_access_check(accesses[i], run);
}

void sim_access_end(const struct sim_access *accesses, int count) {
  struct sim_access order[SIM_MAX_ACCESSES];
  for (int i = sorted(accesses, count, order) - 1; i >= 0; i--)
    pthread_rwlock_unlock(&order[i].buffer->_access);
}
