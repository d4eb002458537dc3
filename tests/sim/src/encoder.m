/*
 * Simulated Metal: what all encoders share, and the blit encoder.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "metal.h"

@implementation SimEncoder

- (instancetype)initWithCommandBuffer:(AGXSimFamilyCommandBuffer *)buffer {
  self = [super init];
  if (self != nil) {
    _command_buffer = [buffer retain];
    buffer->_encoder = self;
  }
  return self;
}

- (void)dealloc {
  if (!_ended)
    sim_stop("a command encoder was released without endEncoding");
  [_label release];
  [_command_buffer release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return [_command_buffer device];
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (void)checkOpen:(const char *)what {
  if (_ended)
    sim_stop("%s after endEncoding", what);
  [_command_buffer checkEncoding:what];
}

- (void)endEncoding {
  [self checkOpen:"endEncoding"];
  _ended = true;
  _command_buffer->_encoder = nil;
}

@end

static void check_alignment(const char *what, NSUInteger value) {
  int64_t alignment = sim_switches.blit_alignment;
  if (alignment > 1 && value % (NSUInteger)alignment != 0)
    sim_stop("%s: %llu is no multiple of %lld", what, (unsigned long long)value, (long long)alignment);
}

@implementation AGXSimFamilyBlitContext
@dynamic device, label; /* SimEncoder's */

- (void)copyFromBuffer:(id<MTLBuffer>)sourceBuffer
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destinationBuffer
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size {
  sim_exclusive_enter(&_exclusive, "a blit encoder");
  [self checkOpen:"a copy"];
  /* Not retained by the command: a command buffer may have been asked not to. */
  __block SimBuffer *source = sim_buffer(sourceBuffer, "a copy");
  __block SimBuffer *target = sim_buffer(destinationBuffer, "a copy");
  [source checkRange:sourceOffset length:size in:"a copy's source"];
  [target checkRange:destinationOffset length:size in:"a copy's target"];
  check_alignment("a copy's source offset", sourceOffset);
  check_alignment("a copy's target offset", destinationOffset);
  check_alignment("a copy's size", size);
  if (size == 0)
    sim_stop("a copy of 0 bytes");
  if (size > (NSUInteger)2 << 30)
    sim_stop("a copy of %llu bytes: beyond 2 GiB a Mac copies wrongly", (unsigned long long)size);
  if (source == target && sourceOffset < destinationOffset + size && destinationOffset < sourceOffset + size)
    sim_stop("a copy between overlapping ranges of a buffer");
  [_command_buffer uses:source];
  [_command_buffer uses:target];
  [_command_buffer append:^(struct sim_run *run) {
    const struct sim_access accesses[] = {{source, sourceOffset, size, false}, {target, destinationOffset, size, true}};
    sim_access_begin(accesses, 2, run);
    memcpy(target->_bytes + destinationOffset, source->_bytes + sourceOffset, size);
    sim_access_end(accesses, 2);
    return (uint32_t)0;
  }];
  sim_exclusive_leave(&_exclusive);
}

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  sim_exclusive_enter(&_exclusive, "a blit encoder");
  [self checkOpen:"a fill"];
  __block SimBuffer *target = sim_buffer(buffer, "a fill");
  [target checkRange:range.location length:range.length in:"a fill"];
  check_alignment("a fill's offset", range.location);
  check_alignment("a fill's length", range.length);
  if (range.length == 0)
    sim_stop("a fill of 0 bytes");
  [_command_buffer uses:target];
  [_command_buffer append:^(struct sim_run *run) {
    const struct sim_access access = {target, range.location, range.length, true};
    sim_access_begin(&access, 1, run);
    memset(target->_bytes + range.location, value, range.length);
    sim_access_end(&access, 1);
    return (uint32_t)0;
  }];
  sim_exclusive_leave(&_exclusive);
}

@end
