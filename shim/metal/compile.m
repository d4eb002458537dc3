/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Compiling a graph: each node in terms of MPSGraph, then all of it by MPSGraph.
 *
 * All is computed in binary32. Inputs and constants of binary16 are widened as they are read, outputs narrowed as they
 * are written, and a cast to binary16 rounds, as on the host shim: sums and squares of binary16 would overflow or lose
 * all precision, and Apple's matrix products of binary16 are not deterministic on some GPUs. */
#include "compile.h"

#include "error.h"
#include "matmul.h"
#include "tensors.h"

/* A tensor of MPS has fewer elements. */
static const int64_t MOST_ELEMENTS = INT32_MAX;

MPSDataType mst_type_of(int32_t dtype) {
  return dtype == MST_F16 ? MPSDataTypeFloat16 : MPSDataTypeFloat32;
}

MPSShape *mst_shape_of(const mst_node *node) {
  NSMutableArray<NSNumber *> *shape = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  for (int32_t i = 0; i < node->rank; i++) {
    [shape addObject:[NSNumber numberWithLongLong:node->dims[i]]];
  }
  if (node->rank == 0) {
    [shape addObject:[NSNumber numberWithLongLong:1]];
  }
  return shape;
}

int32_t mst_compile_check(const mst_graph *graph, const char *function) {
  if (graph->output_count == 0) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the graph has no output");
  }
  for (int32_t id = 0; id < graph->node_count; id++) {
    const mst_node *node = &graph->nodes[id];
    if (node->elements > MOST_ELEMENTS) {
      return mst_error(MST_ERROR_UNSUPPORTED, function, "node %d has %lld elements; MPSGraph takes at most %lld", id,
                       (long long)node->elements, (long long)MOST_ELEMENTS);
    }
    const char *unsupported = node->kind == MST_NODE_MATMUL ? mst_matmul_unsupported(graph, node) : NULL;
    if (unsupported != NULL) {
      return mst_error(MST_ERROR_UNSUPPORTED, function, "node %d: %s", id, unsupported);
    }
  }
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------ rearranging ------ */

static MPSGraphTensor *transpose(MPSGraph *metal, const mst_node *node, MPSGraphTensor *a) {
  if (node->rank == 0) {
    return [metal identityWithTensor:a name:nil];
  }
  NSMutableArray<NSNumber *> *permutation = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  for (int32_t axis = 0; axis < node->rank; axis++) {
    [permutation addObject:[NSNumber numberWithInt:node->as.permutation[axis]]];
  }
  return [metal transposeTensor:a permutation:permutation name:nil];
}

static MPSGraphTensor *slice(MPSGraph *metal, const mst_node *node, MPSGraphTensor *a) {
  NSMutableArray<NSNumber *> *starts = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  NSMutableArray<NSNumber *> *ends = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  NSMutableArray<NSNumber *> *strides = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  for (int32_t axis = 0; axis < node->rank; axis++) {
    [starts addObject:[NSNumber numberWithLongLong:node->as.starts[axis]]];
    [ends addObject:[NSNumber numberWithLongLong:node->as.starts[axis] + node->dims[axis]]];
    [strides addObject:[NSNumber numberWithLongLong:1]];
  }
  return [metal sliceTensor:a starts:starts ends:ends strides:strides name:nil];
}

/* -------------------------------------------------------------------------------------------------------- nodes ---- */

/* The elements of a tensor in a buffer or a constant, as they are computed with. */
static MPSGraphTensor *widened(MPSGraph *metal, const mst_node *node, MPSGraphTensor *stored) {
  return node->dtype == MST_F32 ? stored : [metal castTensor:stored toType:MPSDataTypeFloat32 name:nil];
}

static MPSGraphTensor *constant(MPSGraph *metal, const mst_node *node) {
  const mst_constant *given = node->as.constant;
  NSData *data = [NSData dataWithBytes:given->elements length:(NSUInteger)given->bytes];
  return widened(metal, node, [metal constantWithData:data shape:mst_shape_of(node) dataType:mst_type_of(node->dtype)]);
}

static MPSGraphTensor *cast(MPSGraph *metal, const mst_node *node, MPSGraphTensor *a) {
  /* A tensor of its own even where nothing changes: an output is none of the others. */
  return node->dtype == MST_F32 ? [metal identityWithTensor:a name:nil]
                                : [metal castTensor:[metal castTensor:a toType:MPSDataTypeFloat16 name:nil]
                                             toType:MPSDataTypeFloat32
                                               name:nil];
}

/* The F32 tensor of a node that has operands, given those of the nodes before it. */
static MPSGraphTensor *compute(MPSGraph *metal, const mst_graph *graph, const mst_node *node,
                               NSArray<MPSGraphTensor *> *tensors) {
  NSMutableArray<MPSGraphTensor *> *operands = [NSMutableArray arrayWithCapacity:(NSUInteger)node->operand_count];
  for (int32_t i = 0; i < node->operand_count; i++) {
    [operands addObject:[tensors objectAtIndex:(NSUInteger)mst_operand(graph, node, i)]];
  }
  MPSGraphTensor *a = [operands objectAtIndex:0];
  switch (node->kind) {
    case MST_NODE_CAST:
      return cast(metal, node, a);
    case MST_NODE_MATMUL:
      return mst_matmul_add(metal, graph, node, a, [operands objectAtIndex:1]);
    case MST_NODE_BINARY:
      return mst_tensor_binary(metal, (enum mst_binary)node->operation, a, [operands objectAtIndex:1]);
    case MST_NODE_UNARY:
      return mst_tensor_unary(metal, (enum mst_unary)node->operation, a);
    case MST_NODE_SOFTMAX:
      return mst_tensor_softmax(metal, a);
    case MST_NODE_LAYER_NORM:
      return mst_tensor_layer_norm(metal, a, [operands objectAtIndex:1], [operands objectAtIndex:2], node -> as.eps);
    case MST_NODE_MEAN:
      return mst_tensor_mean(metal, node, a);
    case MST_NODE_TRANSPOSE:
      return transpose(metal, node, a);
    case MST_NODE_CONCAT:
      return [metal concatTensors:operands dimension:node->as.axis name:nil];
    case MST_NODE_SLICE:
      return slice(metal, node, a);
    default:
      return [metal reshapeTensor:a withShape:mst_shape_of(node) name:nil];
  }
}

/* ------------------------------------------------------------------------------------------------------- compile --- */

MPSGraphExecutable *mst_compile(const mst_graph *graph, MPSGraph *metal, MPSGraphDevice *device,
                                NSMutableArray<MPSGraphTensor *> *arguments) {
  NSMutableArray<MPSGraphTensor *> *tensors = [NSMutableArray arrayWithCapacity:(NSUInteger)graph->node_count];
  NSMutableDictionary<MPSGraphTensor *, MPSGraphShapedType *> *feeds = [NSMutableDictionary dictionary];
  for (int32_t id = 0; id < graph->node_count; id++) {
    const mst_node *node = &graph->nodes[id];
    if (node->kind == MST_NODE_INPUT) {
      MPSShape *shape = mst_shape_of(node);
      MPSDataType type = mst_type_of(node->dtype);
      MPSGraphTensor *input = [metal placeholderWithShape:shape dataType:type name:nil];
      [feeds setObject:[[[MPSGraphShapedType alloc] initWithShape:shape dataType:type] autorelease] forKey:input];
      [arguments addObject:input];
      [tensors addObject:widened(metal, node, input)];
    } else if (node->kind == MST_NODE_CONSTANT) {
      [tensors addObject:constant(metal, node)];
    } else {
      [tensors addObject:compute(metal, graph, node, tensors)];
    }
  }
  NSMutableArray<MPSGraphTensor *> *targets = [NSMutableArray arrayWithCapacity:(NSUInteger)graph->output_count];
  for (int32_t i = 0; i < graph->output_count; i++) {
    MPSGraphTensor *result = [tensors objectAtIndex:(NSUInteger)graph->outputs[i]];
    bool narrow = graph->nodes[graph->outputs[i]].dtype == MST_F16;
    [targets addObject:narrow ? [metal castTensor:result toType:MPSDataTypeFloat16 name:nil] : result];
  }
  [arguments addObjectsFromArray:targets];
  MPSGraphCompilationDescriptor *compilation = [[[MPSGraphCompilationDescriptor alloc] init] autorelease];
  /* The default, level 1, may place operations on the CPU or the Neural Engine: other numbers, other queues. */
  compilation.optimizationLevel = MPSGraphOptimizationLevel0;
  compilation.waitForCompilationCompletion = YES;
  return [metal compileWithDevice:device
                            feeds:feeds
                    targetTensors:targets
                 targetOperations:nil
            compilationDescriptor:compilation];
}
