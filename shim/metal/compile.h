/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_COMPILE_H
#define MST_METAL_COMPILE_H

#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <stdint.h>

#include "../common/graph.h"

/* The type of what lies in a buffer. */
MPSDataType mst_type_of(int32_t dtype);

/* Whether MPSGraph can compute the graph; else an error on behalf of `function`. */
int32_t mst_compile_check(const mst_graph *graph, const char *function);

/* Builds the graph in `metal`, which is empty, and compiles it. Adds the tensor of each argument to `arguments`: inputs
 * in order, then outputs. nil, or an exception: MPSGraph refuses. Autoreleased; only as long as `metal` of use. */
MPSGraphExecutable *mst_compile(const mst_graph *graph, MPSGraph *metal, MPSGraphDevice *device,
                                NSMutableArray<MPSGraphTensor *> *arguments);

#endif
