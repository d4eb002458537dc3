/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Matrix products.
 *
 * Both ways are kept clear of what is known to go wrong in Apple's kernels:
 *   - sums over more than 32768 elements are wrong on some GPUs: the inner dimension is cut, the parts are added;
 *   - products of more than two dimensions are not deterministic on some: a product with one right-hand matrix is
 *     flattened to two dimensions. With a right-hand matrix for each batch there is nothing to flatten: it goes with
 *     three dimensions, and
 *   - the index of the batch has 16 bits: batches are cut, the parts are concatenated;
 *   - before macOS 14.4 any dimension beyond 32768 is wrong: refused.
 *
 * MPSNDArrayMatrixMultiplication costs less to encode, but not even objects of one's own make it safe beside others of
 * its kind in the process; so it is taken for products in two dimensions only while the caller vouches for being alone,
 * and everything else goes through MPSGraph. It needs macOS 15, where an MPSNDArray can lie in the caller's buffer. */
#include "matmul.h"

#include <stdint.h>

#include "error.h"

/* Longest sum, and longest dimension before macOS 14.4. */
static const int64_t MOST_INNER = 32768;

/* Matrices in a batch: half of where the index wraps. */
static const int64_t MOST_BATCH = 32768;

/* A product in the terms of BLAS: batch times [m, k] x [k, n]. */
typedef struct mst_product {
  int64_t batch; /* 1: b is one matrix for all, and m counts the rows of the whole of a */
  int64_t m;
  int64_t n;
  int64_t k;
} mst_product;

static mst_product flatten(const mst_node *nodes, const mst_node *product) {
  const mst_node *a = &nodes[product->a];
  mst_product flat = {1, a->dims[a->rank - 2], product->dims[product->rank - 1], a->dims[a->rank - 1]};
  int64_t leading = a->elements / (flat.m * flat.k);
  if (nodes[product->b].rank == 2) {
    flat.m *= leading;
  } else {
    flat.batch = leading;
  }
  return flat;
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

/* ------------------------------------------------------------------------------------------------------ MPSGraph -- */

const char *mst_matmul_unsupported(const mst_node *nodes, const mst_node *product) {
  if (@available(macOS 14.4, *)) {
    return NULL;
  }
  mst_product flat = flatten(nodes, product);
  return flat.m > MOST_INNER || flat.n > MOST_INNER || flat.k > MOST_INNER
             ? "before macOS 14.4 a matrix product with a dimension beyond 32768 is wrong"
             : NULL;
}

static MPSShape *matrices(int64_t batch, int64_t rows, int64_t columns, bool batched) {
  NSNumber *last = [NSNumber numberWithLongLong:columns];
  NSNumber *first = [NSNumber numberWithLongLong:rows];
  return batched ? [NSArray arrayWithObjects:[NSNumber numberWithLongLong:batch], first, last, nil]
                 : [NSArray arrayWithObjects:first, last, nil];
}

static MPSGraphTensor *slice(MPSGraph *graph, MPSGraphTensor *tensor, NSUInteger dimension, int64_t start,
                             int64_t length) {
  return [graph sliceTensor:tensor dimension:dimension start:(NSInteger)start length:(NSInteger)length name:nil];
}

/* a [.., m, k] times b [.., k, n] or, if transposed, [.., n, k], with the inner dimension cut into parts. */
static MPSGraphTensor *inner_parts(MPSGraph *graph, MPSGraphTensor *a, MPSGraphTensor *b, int64_t k, bool transposed,
                                   NSUInteger rank) {
  MPSGraphTensor *sum = nil;
  for (int64_t start = 0; start < k; start += MOST_INNER) {
    int64_t length = k - start < MOST_INNER ? k - start : MOST_INNER;
    MPSGraphTensor *left = a;
    MPSGraphTensor *right = b;
    if (length < k) {
      left = slice(graph, a, rank - 1, start, length);
      right = slice(graph, b, transposed ? rank - 1 : rank - 2, start, length);
    }
    if (transposed) {
      right = [graph transposeTensor:right dimension:rank - 2 withDimension:rank - 1 name:nil];
    }
    MPSGraphTensor *part = [graph matrixMultiplicationWithPrimaryTensor:left secondaryTensor:right name:nil];
    sum = sum == nil ? part : [graph additionWithPrimaryTensor:sum secondaryTensor:part name:nil];
  }
  return sum;
}

MPSGraphTensor *mst_matmul_add(MPSGraph *graph, const mst_node *nodes, const mst_node *product, MPSGraphTensor *a,
                               MPSGraphTensor *b) {
  mst_product flat = flatten(nodes, product);
  bool batched = nodes[product->b].rank > 2;
  bool transposed = product->transpose_b;
  NSUInteger rank = batched ? 3 : 2;
  a = [graph reshapeTensor:a withShape:matrices(flat.batch, flat.m, flat.k, batched) name:nil];
  b = [graph reshapeTensor:b
                 withShape:matrices(flat.batch, transposed ? flat.n : flat.k, transposed ? flat.k : flat.n, batched)
                      name:nil];
  MPSGraphTensor *result = nil;
  if (flat.batch <= MOST_BATCH) {
    result = inner_parts(graph, a, b, flat.k, transposed, rank);
  } else {
    NSMutableArray<MPSGraphTensor *> *parts = [NSMutableArray array];
    for (int64_t start = 0; start < flat.batch; start += MOST_BATCH) {
      int64_t length = flat.batch - start < MOST_BATCH ? flat.batch - start : MOST_BATCH;
      [parts addObject:inner_parts(graph, slice(graph, a, 0, start, length), slice(graph, b, 0, start, length), flat.k,
                                   transposed, rank)];
    }
    result = [graph concatTensors:parts dimension:0 name:nil];
  }
  return [graph reshapeTensor:result withShape:mst_shape_of(product) name:nil];
}

/* --------------------------------------------------------------------------------------------- the second path ---- */

bool mst_matmul_suits_ndarray(const mst_node *nodes, const mst_node *product) {
  if (@available(macOS 15.0, *)) {
    return nodes[product->b].rank == 2 && flatten(nodes, product).k <= MOST_INNER;
  }
  return false;
}

/* The matrix in the first bytes of a buffer, autoreleased. */
static MPSNDArray *matrix_in(id<MTLBuffer> buffer, int64_t rows, int64_t columns) API_AVAILABLE(macos(15.0)) {
  NSUInteger sizes[] = {(NSUInteger)columns, (NSUInteger)rows}; /* the one that moves fastest comes first */
  MPSNDArrayDescriptor *descriptor = [MPSNDArrayDescriptor descriptorWithDataType:MPSDataTypeFloat32
                                                                   dimensionCount:2
                                                                   dimensionSizes:sizes];
  descriptor.preferPackedRows = YES;
  return [[[MPSNDArray alloc] initWithBuffer:buffer offset:0 descriptor:descriptor] autorelease];
}

/* The same matrix, read by columns. */
static MPSNDArray *transposed_view(id<MTLCommandBuffer> root, MPSNDArray *matrix) {
  MPSNDArrayDescriptor *descriptor = [matrix descriptor];
  [descriptor transposeDimension:0 withDimension:1];
  return [matrix arrayViewWithCommandBuffer:root descriptor:descriptor aliasing:MPSAliasingStrategyShallAlias];
}

bool mst_matmul_encode(mst_commands *commands, MPSNDArrayMatrixMultiplication *kernel, const mst_node *nodes,
                       const mst_node *product, id<MTLBuffer> a, id<MTLBuffer> b, id<MTLBuffer> y) {
  if (@available(macOS 15.0, *)) {
    mst_product flat = flatten(nodes, product);
    MPSNDArray *left = matrix_in(a, flat.m, flat.k);
    MPSNDArray *right = product->transpose_b ? matrix_in(b, flat.n, flat.k) : matrix_in(b, flat.k, flat.n);
    MPSNDArray *result = matrix_in(y, flat.m, flat.n);
    if (right != nil && product->transpose_b) {
      right = transposed_view(mst_commands_root(commands), right);
    }
    if (left == nil || right == nil || result == nil) {
      return false;
    }
    mst_commands_watch(commands);
    [kernel encodeToCommandBuffer:commands->metal
                     sourceArrays:[NSArray arrayWithObjects:left, right, nil]
                 destinationArray:result];
    return true;
  }
  return false;
}
