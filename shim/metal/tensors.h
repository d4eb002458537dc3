/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_TENSORS_H
#define MST_METAL_TENSORS_H

#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <stdint.h>

#include "../common/graph.h"

/* The operations of a graph in terms of MPSGraph. Tensors are F32, whatever the dtypes of the nodes: see compile.m. A
 * shape is that of the node, but that a scalar is a vector of one element. What is given back is autoreleased and
 * belongs to `metal`. */

/* A shape as MPSGraph takes it. */
MPSShape *mst_shape_of(const mst_node *node);

/* elementwise.m */
MPSGraphTensor *mst_tensor_unary(MPSGraph *metal, enum mst_unary operation, MPSGraphTensor *a);
MPSGraphTensor *mst_tensor_binary(MPSGraph *metal, enum mst_binary operation, MPSGraphTensor *a, MPSGraphTensor *b);

/* `value` in the shape of a tensor. */
MPSGraphTensor *mst_tensor_of(MPSGraph *metal, double value, MPSGraphTensor *like);

/* rows.m */
MPSGraphTensor *mst_tensor_softmax(MPSGraph *metal, MPSGraphTensor *a);
MPSGraphTensor *mst_tensor_layer_norm(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *gamma, MPSGraphTensor *beta,
                                      float eps);

/* Over the axes of the node, whose operand a is. */
MPSGraphTensor *mst_tensor_mean(MPSGraph *metal, const mst_node *mean, MPSGraphTensor *a);

#endif
