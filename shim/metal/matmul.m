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
#include "tensors.h"

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

static const mst_node *operand(const mst_graph *graph, const mst_node *product, int32_t index) {
  return &graph->nodes[mst_operand(graph, product, index)];
}

static mst_product flatten(const mst_graph *graph, const mst_node *product) {
  const mst_node *a = operand(graph, product, 0);
  mst_product flat = {1, product->dims[product->rank - 2], product->dims[product->rank - 1],
                      a->dims[a->rank - (product->transpose_a ? 2 : 1)]};
  int64_t leading = a->elements / (flat.m * flat.k);
  if (operand(graph, product, 1)->rank == 2) {
    flat.m *= leading;
  } else {
    flat.batch = leading;
  }
  return flat;
}

/* ------------------------------------------------------------------------------------------------------ MPSGraph -- */

const char *mst_matmul_unsupported(const mst_graph *graph, const mst_node *product) {
  if (@available(macOS 14.4, *)) {
    return NULL;
  }
  mst_product flat = flatten(graph, product);
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

static MPSGraphTensor *slice(MPSGraph *metal, MPSGraphTensor *tensor, NSUInteger dimension, int64_t start,
                             int64_t length) {
  return [metal sliceTensor:tensor dimension:dimension start:(NSInteger)start length:(NSInteger)length name:nil];
}

/* a [.., m, k] times b [.., k, n] or, if transposed, [.., n, k], with the inner dimension cut into parts. */
static MPSGraphTensor *inner_parts(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *b, int64_t k, bool transposed,
                                   NSUInteger rank) {
  MPSGraphTensor *sum = nil;
  for (int64_t start = 0; start < k; start += MOST_INNER) {
    int64_t length = k - start < MOST_INNER ? k - start : MOST_INNER;
    MPSGraphTensor *left = a;
    MPSGraphTensor *right = b;
    if (length < k) {
      left = slice(metal, a, rank - 1, start, length);
      right = slice(metal, b, transposed ? rank - 1 : rank - 2, start, length);
    }
    if (transposed) {
      right = [metal transposeTensor:right dimension:rank - 2 withDimension:rank - 1 name:nil];
    }
    MPSGraphTensor *part = [metal matrixMultiplicationWithPrimaryTensor:left secondaryTensor:right name:nil];
    sum = sum == nil ? part : [metal additionWithPrimaryTensor:sum secondaryTensor:part name:nil];
  }
  return sum;
}

/* a [.., k, m] as [.., m, k]: a product is flattened by rows of a, which must be there. */
static MPSGraphTensor *upright(MPSGraph *metal, const mst_node *node, MPSGraphTensor *a) {
  NSUInteger rank = (NSUInteger)node->rank;
  return [metal transposeTensor:a dimension:rank - 2 withDimension:rank - 1 name:nil];
}

MPSGraphTensor *mst_matmul_add(MPSGraph *metal, const mst_graph *graph, const mst_node *product, MPSGraphTensor *a,
                               MPSGraphTensor *b) {
  mst_product flat = flatten(graph, product);
  bool batched = operand(graph, product, 1)->rank > 2;
  bool transposed = product->transpose_b;
  NSUInteger rank = batched ? 3 : 2;
  if (product->transpose_a) {
    a = upright(metal, operand(graph, product, 0), a);
  }
  a = [metal reshapeTensor:a withShape:matrices(flat.batch, flat.m, flat.k, batched) name:nil];
  b = [metal reshapeTensor:b
                 withShape:matrices(flat.batch, transposed ? flat.n : flat.k, transposed ? flat.k : flat.n, batched)
                      name:nil];
  MPSGraphTensor *result = nil;
  if (flat.batch <= MOST_BATCH) {
    result = inner_parts(metal, a, b, flat.k, transposed, rank);
  } else {
    NSMutableArray<MPSGraphTensor *> *parts = [NSMutableArray array];
    for (int64_t start = 0; start < flat.batch; start += MOST_BATCH) {
      int64_t length = flat.batch - start < MOST_BATCH ? flat.batch - start : MOST_BATCH;
      [parts addObject:inner_parts(metal, slice(metal, a, 0, start, length), slice(metal, b, 0, start, length), flat.k,
                                   transposed, rank)];
    }
    result = [metal concatTensors:parts dimension:0 name:nil];
  }
  return [metal reshapeTensor:result withShape:mst_shape_of(product) name:nil];
}

/* --------------------------------------------------------------------------------------------- the second path ---- */

bool mst_matmul_suits_ndarray(const mst_graph *graph, const mst_node *product) {
  if (@available(macOS 15.0, *)) {
    return product->dtype == MST_F32 && !product->transpose_a && operand(graph, product, 1)->rank == 2 &&
           flatten(graph, product).k <= MOST_INNER;
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

bool mst_matmul_encode(mst_commands *commands, MPSNDArrayMatrixMultiplication *kernel, const mst_graph *graph,
                       const mst_node *product, id<MTLBuffer> a, id<MTLBuffer> b, id<MTLBuffer> y) {
  if (@available(macOS 15.0, *)) {
    mst_product flat = flatten(graph, product);
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
