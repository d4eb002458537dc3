/*
 * Simulated Metal: tensors and what MPSGraph's operations make of them.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Written for being obvious, not for speed, and without a line of the host shim. An operation computes in the type of its
 * tensors: a sum of binary16 is rounded after each addition, as the weakest of Apple's kernels could do it.
 */
#ifndef SIM_TENSOR_H
#define SIM_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_TENSOR_RANK = 16 };

enum sim_type { SIM_F32, SIM_F16, SIM_BOOL };

/* Sizes begin with the slowest dimension; elements are dense. F16 and BOOL are kept as the floats that they are. */
struct sim_tensor {
  enum sim_type type;
  size_t rank;
  size_t sizes[SIM_TENSOR_RANK];
  float *elements;
};

size_t sim_tensor_count(const struct sim_tensor *tensor);

/* The nearest value of the type, ties to even. */
float sim_tensor_round(enum sim_type type, double value);

/* Bytes of an element in a buffer. */
size_t sim_type_bytes(enum sim_type type);

/* Between a buffer and elements. */
void sim_tensor_load(struct sim_tensor *tensor, const void *bytes);
void sim_tensor_store(const struct sim_tensor *tensor, void *bytes);

/* Each writes the elements of y, whose type and shape are set. */
void sim_tensor_fill(struct sim_tensor *y, double value);

typedef double sim_function(double a, double b, double c);

/* y = f(a, b, c), with up to three operands that are broadcast to the shape of y. */
void sim_tensor_map(struct sim_tensor *y, sim_function *f, const struct sim_tensor *const *operands, int count);

enum sim_reduction { SIM_REDUCE_SUM, SIM_REDUCE_MEAN, SIM_REDUCE_MAXIMUM };

/* Over the dimensions in which y has a size of 1 and a has not, or that `axes` names: bit i for dimension i. A NaN is less
 * than every maximum, as it is for the function max of the Metal Shading Language. */
void sim_tensor_reduce(struct sim_tensor *y, enum sim_reduction reduction, const struct sim_tensor *a, uint32_t axes);

/* Dimension i of y is dimension permutation[i] of a. */
void sim_tensor_permute(struct sim_tensor *y, const struct sim_tensor *a, const size_t *permutation);

/* Element p of y is element starts + p * strides of a. */
void sim_tensor_slice(struct sim_tensor *y, const struct sim_tensor *a, const size_t *starts, const size_t *strides);

/* Puts a into y, `start` positions along a dimension. */
void sim_tensor_insert(struct sim_tensor *y, const struct sim_tensor *a, size_t dimension, size_t start);

/* Batches of y = a b; a tensor with fewer batches is used again. */
void sim_tensor_product(struct sim_tensor *y, const struct sim_tensor *a, const struct sim_tensor *b);

#endif /* SIM_TENSOR_H */
