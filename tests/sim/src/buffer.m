/*
 * Simulated Metal: buffers, and the check that their uses are ordered.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "metal.h"

/* The last read and write of one queue, by its ticks. */
struct sim_use {
  int queue;
  uint64_t read;
  uint64_t write;
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
    sim_stop("buffer \"%s\" was freed while %lld command buffers use it", [_label UTF8String], (long long)_users);
  atomic_fetch_sub(&_device->_allocated, _length);
  free(_bytes);
  free(_uses);
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
             (unsigned long long)length, [_label UTF8String], (unsigned long long)_length);
}

- (void)use:(struct sim_run *)run write:(bool)write {
  if (!sim_switches.hazards)
    return;
  pthread_mutex_lock(&_lock);
  struct sim_use *own = NULL;
  for (int i = 0; i < _use_count; i++) {
    struct sim_use *use = &_uses[i];
    uint64_t known = run->clock.tick[use->queue];
    if (use->queue == run->queue)
      own = use;
    else if (use->write > known || (write && use->read > known))
      sim_stop("buffer \"%s\" of %llu bytes is %s by one queue in no order with its %s by another", [_label UTF8String],
               (unsigned long long)_length, write ? "written" : "read", use->write > known ? "write" : "read");
  }
  if (own == NULL) {
    _uses = realloc(_uses, (size_t)(_use_count + 1) * sizeof *_uses);
    if (_uses == NULL)
      sim_stop("no memory for the uses of a buffer");
    own = &_uses[_use_count++];
    *own = (struct sim_use){.queue = run->queue};
  }
  if (write)
    own->write = run->tick;
  else
    own->read = run->tick;
  pthread_mutex_unlock(&_lock);
}

@end
