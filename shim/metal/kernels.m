/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Compute kernels: their source, their pipelines, and the lock around their encoding.
 *
 * The source is compiled at run time, once per device and when the first of them is needed, so that a process that
 * needs none does not start the shader compiler. No lock is held meanwhile: threads that come at the same time compile
 * it twice, and all but the first throw theirs away.
 *
 * Encoding of compute work by several threads at once, each on its own queue, was seen to crash in the driver from four
 * threads on. Until somebody shows that to be gone, one lock of the process covers each of our encoders from before its
 * creation until after its release: some microseconds. That includes its destruction, of which the driver is known to
 * give the encoder's context back before it has done with it (agx_guard.m): no other encoder of ours is made or used in
 * between. It holds as long as Metal keeps no reference of its own beyond endEncoding; an encoder that MPS opens is not
 * covered. MST_DEVICE_PARALLEL_COMPUTE turns the lock off. */
#include "kernels.h"

#include <pthread.h>
#include <stdlib.h>

#include "buffer.h"
#include "error.h"
#include "queue.h"

/* Threads of a group in the row kernels; a power of two. The reduction over them is a tree in threadgroup memory, which
 * every GPU family has. */
#define MST_ROW_THREADS "256"

static NSString *const SOURCE =
    @"#include <metal_stdlib>\n"
    @"using namespace metal;\n"
    @"\n"
    @"struct span { ulong target_offset; ulong source_offset; ulong length; ulong byte; };\n"
    @"\n"
    @"kernel void mst_fill_bytes(device uchar *target [[buffer(0)]], constant span &s [[buffer(1)]],\n"
    @"                           uint i [[thread_position_in_grid]]) {\n"
    @"  if (i < s.length) target[s.target_offset + i] = uchar(s.byte);\n"
    @"}\n"
    @"\n"
    @"kernel void mst_copy_bytes(device uchar *target [[buffer(0)]], constant span &s [[buffer(1)]],\n"
    @"                           device const uchar *source [[buffer(2)]], uint i [[thread_position_in_grid]]) {\n"
    @"  if (i < s.length) target[s.target_offset + i] = source[s.source_offset + i];\n"
    @"}\n"
    @"\n"
    @"// The sum over the threads of a group; called by all of them.\n"
    @"static float total(float mine, threadgroup float *sums, uint lane, uint lanes) {\n"
    @"  sums[lane] = mine;\n"
    @"  threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    @"  for (uint reach = lanes / 2; reach > 0; reach /= 2) {\n"
    @"    if (lane < reach) sums[lane] += sums[lane + reach];\n"
    @"    threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    @"  }\n"
    @"  float sum = sums[0];\n"
    @"  threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    @"  return sum;\n"
    @"}\n"
    @"\n"
    @"struct layer_norm { uint columns; float eps; };\n"
    @"\n"
    @"// One group for each row. All is reckoned from the row's first element: where the mean is large against the\n"
    @"// deviation, the differences are exact and the mean would not be.\n"
    @"kernel void mst_layer_norm(device const float *x [[buffer(0)]], device const float *gamma [[buffer(1)]],\n"
    @"                           device const float *beta [[buffer(2)]], device float *y [[buffer(3)]],\n"
    @"                           constant layer_norm &p [[buffer(4)]], uint row [[threadgroup_position_in_grid]],\n"
    @"                           uint lane [[thread_position_in_threadgroup]],\n"
    @"                           uint lanes [[threads_per_threadgroup]]) {\n"
    @"  threadgroup float sums[" MST_ROW_THREADS "];\n"
    @"  ulong first = ulong(row) * p.columns;\n"
    @"  float origin = x[first];\n"
    @"  float sum = 0;\n"
    @"  for (ulong i = lane; i < p.columns; i += lanes) sum += x[first + i] - origin;\n"
    @"  float mean = total(sum, sums, lane, lanes) / p.columns;\n"
    @"  float squares = 0;\n"
    @"  for (ulong i = lane; i < p.columns; i += lanes) {\n"
    @"    float d = x[first + i] - origin - mean;\n"
    @"    squares += d * d;\n"
    @"  }\n"
    @"  float variance = total(squares, sums, lane, lanes) / p.columns;\n"
    @"  float scale = 1 / sqrt(variance + p.eps);\n"
    @"  for (ulong i = lane; i < p.columns; i += lanes) {\n"
    @"    y[first + i] = (x[first + i] - origin - mean) * scale * gamma[i] + beta[i];\n"
    @"  }\n"
    @"}\n";

/* Most threads of one dispatch; a kernel's index has 32 bits. */
static const uint64_t MOST_PER_DISPATCH = 1u << 30;

static pthread_mutex_t compute_lock = PTHREAD_MUTEX_INITIALIZER;

/* --------------------------------------------------------------------------------------------------- pipelines ---- */

static id<MTLLibrary> compile(id<MTLDevice> metal, NSError **error) {
  MTLCompileOptions *options = [[[MTLCompileOptions alloc] init] autorelease];
  /* No contraction of a division into a reciprocal, no assumption that there is no NaN. */
  if (@available(macOS 15.0, *)) {
    options.mathMode = MTLMathModeSafe;
  } else {
    options.fastMathEnabled = NO;
  }
  return [metal newLibraryWithSource:SOURCE options:options error:error];
}

/* An owned pipeline, or nil. */
static id<MTLComputePipelineState> pipeline(id<MTLDevice> metal, id<MTLLibrary> library, NSString *name,
                                            NSError **error) {
  id<MTLFunction> function = [library newFunctionWithName:name];
  if (function == nil) {
    return nil;
  }
  id<MTLComputePipelineState> state = [metal newComputePipelineStateWithFunction:function error:error];
  [function release];
  return state;
}

void mst_kernels_release(mst_kernels *kernels) {
  if (kernels == NULL) {
    return;
  }
  [kernels->fill_bytes release];
  [kernels->copy_bytes release];
  [kernels->layer_norm release];
  free(kernels);
}

static mst_kernels *make_kernels(id<MTLDevice> metal, NSError **error) {
  mst_kernels *kernels = calloc(1, sizeof(mst_kernels));
  id<MTLLibrary> library = kernels == NULL ? nil : compile(metal, error);
  if (library == nil) {
    free(kernels);
    return NULL;
  }
  kernels->fill_bytes = pipeline(metal, library, @"mst_fill_bytes", error);
  kernels->copy_bytes = pipeline(metal, library, @"mst_copy_bytes", error);
  kernels->layer_norm = pipeline(metal, library, @"mst_layer_norm", error);
  [library release];
  if (kernels->fill_bytes == nil || kernels->copy_bytes == nil || kernels->layer_norm == nil) {
    mst_kernels_release(kernels);
    return NULL;
  }
  return kernels;
}

const mst_kernels *mst_kernels_of(mst_device *device, const char *function, int32_t *status) {
  *status = MST_OK;
  mst_kernels *kernels = atomic_load_explicit(&device->kernels, memory_order_acquire);
  if (kernels != NULL) {
    return kernels;
  }
  NSError *error = nil;
  kernels = make_kernels(device->metal, &error);
  if (kernels == NULL) {
    char message[256];
    mst_describe_error(error, message, sizeof(message));
    *status = mst_error(MST_ERROR_COMPILE, function, "the compute kernels do not compile: %s", message);
    return NULL;
  }
  mst_kernels *installed = NULL;
  if (!atomic_compare_exchange_strong(&device->kernels, &installed, kernels)) {
    mst_kernels_release(kernels);
    kernels = installed;
  }
  return kernels;
}

/* ---------------------------------------------------------------------------------------------------- encoding ---- */

id<MTLComputeCommandEncoder> mst_compute_begin(mst_commands *commands) {
  bool serial = (commands->queue->device->flags & MST_DEVICE_PARALLEL_COMPUTE) == 0;
  if (serial) {
    pthread_mutex_lock(&compute_lock);
  }
  @autoreleasepool { /* whose reference must not be the last one */
    commands->compute = [[mst_commands_root(commands) computeCommandEncoder] retain];
  }
  if (commands->compute == nil && serial) {
    pthread_mutex_unlock(&compute_lock);
  }
  return commands->compute;
}

void mst_compute_end(mst_commands *commands) {
  @autoreleasepool {
    [commands->compute endEncoding];
  }
  [commands->compute release];
  commands->compute = nil;
  if ((commands->queue->device->flags & MST_DEVICE_PARALLEL_COMPUTE) == 0) {
    pthread_mutex_unlock(&compute_lock);
  }
}

static void dispatch_span(id<MTLComputeCommandEncoder> encoder, id<MTLComputePipelineState> state, mst_byte_span span) {
  NSUInteger width = state.threadExecutionWidth;
  uint64_t left = span.length;
  while (left > 0) {
    span.length = left < MOST_PER_DISPATCH ? left : MOST_PER_DISPATCH;
    [encoder setBytes:&span length:sizeof(span) atIndex:1];
    [encoder dispatchThreadgroups:MTLSizeMake((NSUInteger)(span.length + width - 1) / width, 1, 1)
            threadsPerThreadgroup:MTLSizeMake(width, 1, 1)];
    left -= span.length;
    span.target_offset += span.length;
    span.source_offset += span.length;
  }
}

int32_t mst_encode_bytes(mst_commands *commands, const mst_buffer *source, const mst_buffer *target,
                         const mst_byte_span *spans, uint32_t count, const char *function) {
  int32_t status = MST_OK;
  const mst_kernels *kernels = mst_kernels_of(commands->queue->device, function, &status);
  if (kernels == NULL) {
    return status;
  }
  id<MTLComputePipelineState> state = source == NULL ? kernels->fill_bytes : kernels->copy_bytes;
  id<MTLComputeCommandEncoder> encoder = mst_compute_begin(commands);
  if (encoder == nil) {
    return mst_error(MST_ERROR_OUT_OF_MEMORY, function, "Metal gives no compute encoder");
  }
  [encoder setComputePipelineState:state];
  [encoder setBuffer:target->metal offset:0 atIndex:0];
  if (source != NULL) {
    [encoder setBuffer:source->metal offset:0 atIndex:2];
  }
  for (uint32_t i = 0; i < count; i++) {
    dispatch_span(encoder, state, spans[i]);
  }
  mst_compute_end(commands);
  return MST_OK;
}
