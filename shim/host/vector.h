/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_VECTOR_H
#define MST_HOST_VECTOR_H

#include <stdint.h>

#include "../common/graph.h"

/* out may be in. */
typedef void mst_unary_row(const float *in, float *out, int64_t count);

/* The strides are 0 or 1. out may be an operand whose stride is 1. */
typedef void mst_binary_row(const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *out,
                            int64_t count);

/* Functions over dense rows, compiled for one instruction set. Each gives an element the same bits wherever in a row or
 * a tensor it lies. Their results are within a few units in the last place of the exact ones. */
typedef struct mst_vector_kernels {
  mst_unary_row *unary[MST_UNARY_COUNT];
  mst_binary_row *binary[MST_BINARY_COUNT];

  /* out may be in. */
  void (*softmax)(const float *in, float *out, int64_t rows, int64_t columns);
  void (*layer_norm)(const float *in, const float *gamma, const float *beta, float eps, float *out, int64_t rows,
                     int64_t columns);
} mst_vector_kernels;

/* Those that this CPU runs best. */
const mst_vector_kernels *mst_vector(void);

extern const mst_vector_kernels mst_vector_baseline;
#if defined(__x86_64__)
extern const mst_vector_kernels mst_vector_avx2;
extern const mst_vector_kernels mst_vector_avx512;
#endif

#endif
