/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_BUFFER_H
#define MST_METAL_BUFFER_H

#import <Metal/Metal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mst.h"

struct mst_buffer {
  uint32_t tag;
  atomic_int_least32_t uses; /* see buffer.m */
  mst_device *device;
  uint64_t bytes;
  id<MTLBuffer> metal;
};

/* Counts a use by an open command buffer. False if the buffer is being destroyed. */
bool mst_buffer_use(mst_buffer *buffer);
void mst_buffer_unuse(mst_buffer *buffer);

#endif
