/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_KERNELS_H
#define MST_METAL_KERNELS_H

#import <Metal/Metal.h>
#include <stdint.h>

#include "commands.h"
#include "device.h"
#include "mst.h"

/* Our own compute kernels. See kernels.m. */
typedef struct mst_kernels {
  id<MTLComputePipelineState> fill_bytes;
  id<MTLComputePipelineState> copy_bytes;
  id<MTLComputePipelineState> layer_norm;
} mst_kernels;

/* The device's kernels, compiled at the first call; NULL and an error on behalf of `function` if that fails. */
const mst_kernels *mst_kernels_of(mst_device *device, const char *function, int32_t *status);

/* NULL is allowed. */
void mst_kernels_release(mst_kernels *kernels);

/* Opens a compute encoder on the live root, under the process-wide lock unless the device's flags say otherwise; nil,
 * and no lock held, if Metal gives none. mst_compute_end ends it and gives it back, so nobody else may retain it;
 * nothing that can fail goes between the two. */
id<MTLComputeCommandEncoder> mst_compute_begin(mst_commands *commands);
void mst_compute_end(mst_commands *commands);

/* A run of bytes, as the kernels see it: the layout is that of the structure in the source of kernels.m. */
typedef struct mst_byte_span {
  uint64_t target_offset;
  uint64_t source_offset;
  uint64_t length;
  uint64_t byte;
} mst_byte_span;

/* Copies each span from source to target or, if source is NULL, fills it: for what a blit cannot do. */
int32_t mst_encode_bytes(mst_commands *commands, const mst_buffer *source, const mst_buffer *target,
                         const mst_byte_span *spans, uint32_t count, const char *function);

#endif
