/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_ELEMENTWISE_H
#define MST_HOST_ELEMENTWISE_H

#include <stdbool.h>
#include <stdint.h>

#include "mst.h"
#include "vector.h"

/* A walk over two strided tensors of the same dims, after adjacent dimensions that behave alike were merged. Strides are
 * in elements. */
typedef struct mst_walk {
  int32_t rank; /* at least 1 */
  int64_t dims[MST_MAX_RANK];
  int64_t a_strides[MST_MAX_RANK];
  int64_t b_strides[MST_MAX_RANK];
} mst_walk;

/* Plans a walk over `rank` dims; a stride of 0 repeats. */
void mst_walk_plan(mst_walk *walk, int32_t rank, const int64_t *dims, const int64_t *a_strides,
                   const int64_t *b_strides);

/* out is dense. Along the last dimension of the walk, strides are 0 or 1. out may be a or b, if that one is dense. */
void mst_walk_binary(const mst_walk *walk, enum mst_binary operation, const float *a, const float *b, float *out);

/* Copies a to b. */
void mst_walk_copy(const mst_walk *walk, const float *a, float *b);

/* A mean over some dimensions of a dense tensor, adjacent ones of the same kind merged. */
typedef struct mst_mean_plan {
  int32_t rank; /* at least 1 */
  int64_t dims[MST_MAX_RANK];
  int64_t strides[MST_MAX_RANK];
  bool reduced[MST_MAX_RANK];
} mst_mean_plan;

/* axes: bit i for dimension i. */
void mst_mean_prepare(mst_mean_plan *plan, int32_t rank, const int64_t *dims, uint32_t axes);
void mst_mean(const mst_mean_plan *plan, const float *in, float *out);

/* Between binary32 and binary16, rounding to nearest, ties to even. */
void mst_widen(const uint16_t *in, float *out, int64_t elements);
void mst_narrow(const float *in, uint16_t *out, int64_t elements);
/* The values that narrowing would keep. out may be in. */
void mst_round_to_f16(const float *in, float *out, int64_t elements);

#endif
