/*
 * Simulated Metal: the blocks runtime.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The layouts are those of the published block ABI. A block that is copied off the stack retains the Objective-C
 * objects that it captured, and blocks are objects themselves: they can be retained, released and put into collections.
 */
#include <Block.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#import <Foundation/Foundation.h>

#include "sim.h"

enum {
  BLOCK_NEEDS_FREE = 1 << 24,
  BLOCK_HAS_HELPERS = 1 << 25,
  BLOCK_IS_GLOBAL = 1 << 28,

  FIELD_IS_OBJECT = 3,
  FIELD_IS_BLOCK = 7,
  FIELD_IS_BYREF = 8,
  FIELD_IS_WEAK = 16,
  FIELD_IN_BYREF = 128,
};

struct descriptor {
  unsigned long reserved;
  unsigned long size;
  void (*copy)(void *target, const void *source);
  void (*dispose)(const void *block);
};

struct block {
  Class isa;
  int32_t flags;
  _Atomic(uint32_t) references; /* reserved by the ABI; of a heap block: its reference count */
  void (*invoke)(void *, ...);
  struct descriptor *descriptor;
};

struct byref {
  void *isa; /* of a heap copy: its reference count */
  struct byref *forwarding;
  int32_t flags;
  uint32_t size;
  void (*copy)(struct byref *target, struct byref *source);
  void (*dispose)(struct byref *variable);
};

@interface SimBlock : NSObject
@end

@interface SimStackBlock : SimBlock
@end

@interface SimGlobalBlock : SimBlock
@end

@interface SimHeapBlock : SimBlock
@end

/* Compiled code gives blocks these symbols for their class. */
__asm__(
    ".globl _NSConcreteStackBlock\n"
    ".set _NSConcreteStackBlock, _OBJC_CLASS_SimStackBlock\n"
    ".globl _NSConcreteGlobalBlock\n"
    ".set _NSConcreteGlobalBlock, _OBJC_CLASS_SimGlobalBlock\n");

void *_Block_copy(const void *argument) {
  struct block *source = (struct block *)argument;
  if (source == NULL || (source->flags & BLOCK_IS_GLOBAL))
    return source;
  if (source->flags & BLOCK_NEEDS_FREE) {
    atomic_fetch_add_explicit(&source->references, 1, memory_order_relaxed);
    return source;
  }
  struct block *copy = malloc(source->descriptor->size);
  if (copy == NULL)
    sim_stop("no memory for a block");
  memcpy(copy, source, source->descriptor->size);
  copy->isa = [SimHeapBlock class];
  copy->flags |= BLOCK_NEEDS_FREE;
  atomic_init(&copy->references, 1);
  sim_count_object(copy->isa, 1);
  if (copy->flags & BLOCK_HAS_HELPERS)
    copy->descriptor->copy(copy, source);
  return copy;
}

void _Block_release(const void *argument) {
  struct block *block = (struct block *)argument;
  if (block == NULL || (block->flags & BLOCK_NEEDS_FREE) == 0)
    return;
  uint32_t before = atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel);
  if (before == 0)
    sim_stop("a deallocated block was released");
  if (before > 1)
    return;
  if (block->flags & BLOCK_HAS_HELPERS)
    block->descriptor->dispose(block);
  sim_count_object(block->isa, -1);
  free(block);
}

static _Atomic(uintptr_t) *byref_references(struct byref *heap) {
  return (_Atomic(uintptr_t) *)&heap->isa;
}

static struct byref *byref_copy(struct byref *source) {
  struct byref *heap = source->forwarding;
  if (heap->flags & BLOCK_NEEDS_FREE) {
    atomic_fetch_add_explicit(byref_references(heap), 1, memory_order_relaxed);
    return heap;
  }
  heap = malloc(source->size);
  if (heap == NULL)
    sim_stop("no memory for a __block variable");
  memcpy(heap, source, source->size);
  heap->flags |= BLOCK_NEEDS_FREE;
  heap->forwarding = heap;
  atomic_init(byref_references(heap), 2); /* the block's and the stack frame's */
  source->forwarding = heap;
  if (source->flags & BLOCK_HAS_HELPERS)
    heap->copy(heap, source);
  return heap;
}

static void byref_release(struct byref *variable) {
  variable = variable->forwarding;
  if ((variable->flags & BLOCK_NEEDS_FREE) == 0)
    return;
  if (atomic_fetch_sub_explicit(byref_references(variable), 1, memory_order_acq_rel) > 1)
    return;
  if (variable->flags & BLOCK_HAS_HELPERS)
    variable->dispose(variable);
  free(variable);
}

void _Block_object_assign(void *destination, const void *object, const int flags) {
  const void **target = destination;
  switch (flags & ~FIELD_IS_WEAK) {
    case FIELD_IS_OBJECT:
      *target = [(id)object retain];
      break;
    case FIELD_IS_BLOCK:
      *target = _Block_copy(object);
      break;
    case FIELD_IS_BYREF:
      *target = byref_copy((struct byref *)object);
      break;
    default: /* inside a __block variable nothing is retained */
      *target = object;
      break;
  }
}

void _Block_object_dispose(const void *object, const int flags) {
  switch (flags & ~FIELD_IS_WEAK) {
    case FIELD_IS_OBJECT:
      [(id)object release];
      break;
    case FIELD_IS_BLOCK:
      _Block_release(object);
      break;
    case FIELD_IS_BYREF:
      byref_release((struct byref *)object);
      break;
    default:
      break;
  }
}

@implementation SimBlock

- (instancetype)retain {
  return self;
}

- (oneway void)release {
}

- (instancetype)autorelease {
  return self;
}

- (id)copy {
  return _Block_copy(self);
}

- (id)copyWithZone:(NSZone *)zone {
  (void)zone;
  return _Block_copy(self);
}

@end

@implementation SimStackBlock
@end

@implementation SimGlobalBlock
@end

@implementation SimHeapBlock

- (instancetype)retain {
  return _Block_copy(self);
}

- (oneway void)release {
  _Block_release(self);
}

- (instancetype)autorelease {
  sim_require_pool("a block");
  [NSAutoreleasePool addObject:self];
  return self;
}

@end
