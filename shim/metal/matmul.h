/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_MATMUL_H
#define MST_METAL_MATMUL_H

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <stdbool.h>

#include "../common/graph.h"
#include "commands.h"
#include "mst.h"

/* A matrix product, by MPSGraph or by MPSNDArrayMatrixMultiplication. See matmul.m. */

/* Why MPSGraph would compute this product wrongly on this system; NULL if it does not. */
const char *mst_matmul_unsupported(const mst_graph *graph, const mst_node *product);

/* Adds the product of a and b, which are F32 and have the shapes of the nodes, to `metal`; the result has the shape of
 * the product. */
MPSGraphTensor *mst_matmul_add(MPSGraph *metal, const mst_graph *graph, const mst_node *product, MPSGraphTensor *a,
                               MPSGraphTensor *b);

/* Whether MPSNDArrayMatrixMultiplication can compute this product straight from and into buffers. */
bool mst_matmul_suits_ndarray(const mst_graph *graph, const mst_node *product);

/* Encodes the product with `kernel`, which one thread uses at a time. False, and nothing is encoded: it cannot be done
 * so after all. */
bool mst_matmul_encode(mst_commands *commands, MPSNDArrayMatrixMultiplication *kernel, const mst_graph *graph,
                       const mst_node *product, id<MTLBuffer> a, id<MTLBuffer> b, id<MTLBuffer> y);

#endif
