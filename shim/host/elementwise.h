/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_ELEMENTWISE_H
#define MST_HOST_ELEMENTWISE_H

#include <stdint.h>

#include "mst.h"

/* A sum with broadcasting, after adjacent dimensions that behave alike were merged. Strides are in elements; along the
 * last dimension they are 0 or 1. */
typedef struct mst_broadcast {
  int32_t rank; /* at least 1 */
  int64_t dims[MST_MAX_RANK];
  int64_t a_strides[MST_MAX_RANK];
  int64_t b_strides[MST_MAX_RANK];
} mst_broadcast;

/* The sum of dense tensors of these shapes; the caller has checked that they broadcast. */
void mst_broadcast_plan(mst_broadcast *plan, const int64_t *a_dims, int32_t a_rank, const int64_t *b_dims,
                        int32_t b_rank);

/* out is dense. It may be a or b, if that one is not broadcast. */
void mst_broadcast_add(const mst_broadcast *plan, const float *a, const float *b, float *out);

/* max(in, 0), NaN staying NaN. out may be in. */
void mst_relu(const float *in, float *out, int64_t elements);

/* Copies `row` into each row of out. */
void mst_fill_rows(const float *row, float *out, int64_t rows, int64_t columns);

#endif
