/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Layer norm, by the compute kernel of kernels.m. MPSGraph has no such operation, and what it composes normalises like
 * a batch norm: two passes over a row are exact where its one is not. */
#include <math.h>

#include "buffer.h"
#include "error.h"
#include "kernels.h"
#include "queue.h"

/* As in the source of the kernel. */
typedef struct layer_norm {
  uint32_t columns;
  float eps;
} layer_norm;

/* Threads for a row: a power of two, no more than the kernel has room for. */
static NSUInteger row_threads(id<MTLComputePipelineState> state, uint64_t columns) {
  NSUInteger most = state.maxTotalThreadsPerThreadgroup < 256 ? state.maxTotalThreadsPerThreadgroup : 256;
  NSUInteger threads = 1;
  while (threads * 2 <= most && threads < columns) {
    threads *= 2;
  }
  return threads;
}

/* Whether the sizes are allowed and the buffers hold them; else an error. */
static int32_t check(const mst_queue *queue, mst_buffer *const *buffers, uint64_t rows, uint64_t columns, float eps,
                     const char *function) {
  if (rows < 1 || rows > UINT32_MAX || columns < 1 || columns > UINT32_MAX) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "%llu rows of %llu columns", (unsigned long long)rows,
                     (unsigned long long)columns);
  }
  if (!isfinite(eps) || eps < 0) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "eps is %g", (double)eps);
  }
  uint64_t row_bytes = columns * sizeof(float);
  if (rows > UINT64_MAX / row_bytes) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "%llu rows of %llu columns overflow",
                     (unsigned long long)rows, (unsigned long long)columns);
  }
  const uint64_t bytes[] = {rows * row_bytes, row_bytes, row_bytes, rows * row_bytes};
  for (int i = 0; i < 4; i++) {
    int32_t status = mst_commands_check_range(queue, buffers[i], 0, bytes[i], function);
    if (status != MST_OK) {
      return status;
    }
    if (i < 3 && buffers[i] == buffers[3]) {
      return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "y is an input as well");
    }
  }
  return MST_OK;
}

int32_t mst_encode_layer_norm(mst_queue *queue, uint64_t value, mst_buffer *x, mst_buffer *gamma, mst_buffer *beta,
                              mst_buffer *y, uint64_t rows, uint64_t columns, float eps) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
    if (commands == NULL) {
      return status;
    }
    mst_buffer *buffers[] = {x, gamma, beta, y};
    status = check(queue, buffers, rows, columns, eps, __func__);
    if (status != MST_OK) {
      return status;
    }
    mst_device *device = queue->device;
    const mst_kernels *kernels = mst_kernels_of(device, __func__, &status);
    if (kernels == NULL) {
      return status;
    }
    status = mst_commands_use(commands, buffers, 4, __func__);
    if (status != MST_OK || commands->dependency.value != 0) {
      return status;
    }
    id<MTLComputeCommandEncoder> encoder = mst_compute_begin(commands);
    if (encoder == nil) {
      mst_commands_unuse(commands, 4);
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "Metal gives no compute encoder");
    }
    const layer_norm parameters = {(uint32_t)columns, eps};
    [encoder setComputePipelineState:kernels->layer_norm];
    for (NSUInteger i = 0; i < 4; i++) {
      [encoder setBuffer:buffers[i]->metal offset:0 atIndex:i];
    }
    [encoder setBytes:&parameters length:sizeof(parameters) atIndex:4];
    [encoder dispatchThreadgroups:MTLSizeMake((NSUInteger)rows, 1, 1)
            threadsPerThreadgroup:MTLSizeMake(row_threads(kernels->layer_norm, columns), 1, 1)];
    mst_compute_end(commands);
    atomic_fetch_add_explicit(&device->layer_norms, 1, memory_order_relaxed);
    return MST_OK;
  }
}
