/*
 * Simulated Metal: compute pipelines.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_LIBRARY_H
#define SIM_LIBRARY_H

#include "metal.h"

/* Same layout as in metal_stdlib. */
struct sim_kernel {
  const char *name;
  void *function;
  uint32_t reads;
  uint32_t writes;
  uint32_t group_memory;
};

/* A library that was compiled and loaded; kept until the process ends. */
struct sim_program;

@interface SimLibrary : SimObject <MTLLibrary> {
 @public
  SimDevice *_device;
  NSString *_label;
  struct sim_program *_program;
}
- (instancetype)initWithDevice:(SimDevice *)device
                        source:(NSString *)source
                       options:(MTLCompileOptions *)options
                         error:(NSError **)error;
@end

@interface SimFunction : SimObject <MTLFunction> {
 @public
  SimLibrary *_library;
  NSString *_label;
  const struct sim_kernel *_kernel;
}
@end

@interface SimPipeline : SimObject <MTLComputePipelineState> {
 @public
  SimFunction *_function;
}
- (instancetype)initWithFunction:(SimFunction *)function;
@end

/* Encodes a dispatch of the encoder's pipeline over a grid of threads. */
void sim_kernel_dispatch(AGXSimFamilyComputeContext *encoder, MTLSize threads, MTLSize group);

#endif /* SIM_LIBRARY_H */
