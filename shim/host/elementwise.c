/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Element by element: the loops are written for the compiler to vectorise. In-place loops stand on their own, so that
 * the others may promise that nothing overlaps. */
#include "elementwise.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------------ rows ------ */

static void add_rows(const float *restrict a, const float *restrict b, float *restrict out, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    out[i] = a[i] + b[i];
  }
}

static void add_row_to(float *restrict out, const float *restrict b, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    out[i] += b[i];
  }
}

static void add_number(const float *restrict a, float b, float *restrict out, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    out[i] = a[i] + b;
  }
}

static void add_number_to(float *out, float b, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    out[i] += b;
  }
}

/* One row of the sum; the strides are 0 or 1. */
static void add_row(const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *out, int64_t count) {
  if (a_stride == 0) {
    /* Addition commutes: let a be the one that is not broadcast. */
    const float *swapped = a;
    a = b;
    b = swapped;
    int64_t swapped_stride = a_stride;
    a_stride = b_stride;
    b_stride = swapped_stride;
  }
  if (a_stride == 0) {
    float sum = *a + *b;
    for (int64_t i = 0; i < count; i++) {
      out[i] = sum;
    }
  } else if (b_stride == 0 && out == a) {
    add_number_to(out, *b, count);
  } else if (b_stride == 0) {
    add_number(a, *b, out, count);
  } else if (out == a) {
    add_row_to(out, b, count);
  } else if (out == b) {
    add_row_to(out, a, count);
  } else {
    add_rows(a, b, out, count);
  }
}

/* ------------------------------------------------------------------------------------------------- broadcasting --- */

void mst_broadcast_plan(mst_broadcast *plan, const int64_t *a_dims, int32_t a_rank, const int64_t *b_dims,
                        int32_t b_rank) {
  int32_t rank = a_rank > b_rank ? a_rank : b_rank;
  /* From the last dimension to the first, each merged into the one before it in this order where both operands go on
   * as if the two were one. */
  int64_t dims[MST_MAX_RANK];
  int64_t a_strides[MST_MAX_RANK];
  int64_t b_strides[MST_MAX_RANK];
  int32_t merged = 0;
  int64_t a_next = 1;
  int64_t b_next = 1;
  for (int32_t back = 1; back <= rank; back++) {
    int64_t a_dim = back <= a_rank ? a_dims[a_rank - back] : 1;
    int64_t b_dim = back <= b_rank ? b_dims[b_rank - back] : 1;
    int64_t dim = a_dim > b_dim ? a_dim : b_dim;
    int64_t a_stride = a_dim == 1 ? 0 : a_next;
    int64_t b_stride = b_dim == 1 ? 0 : b_next;
    a_next *= a_dim;
    b_next *= b_dim;
    if (dim == 1) {
      continue;
    }
    int32_t last = merged - 1;
    if (merged > 0 && a_stride == a_strides[last] * dims[last] && b_stride == b_strides[last] * dims[last]) {
      dims[last] *= dim;
    } else {
      dims[merged] = dim;
      a_strides[merged] = a_stride;
      b_strides[merged] = b_stride;
      merged++;
    }
  }
  if (merged == 0) {
    dims[0] = 1;
    a_strides[0] = 0;
    b_strides[0] = 0;
    merged = 1;
  }
  plan->rank = merged;
  for (int32_t i = 0; i < merged; i++) {
    plan->dims[i] = dims[merged - 1 - i];
    plan->a_strides[i] = a_strides[merged - 1 - i];
    plan->b_strides[i] = b_strides[merged - 1 - i];
  }
}

void mst_broadcast_add(const mst_broadcast *plan, const float *a, const float *b, float *out) {
  int32_t inner = plan->rank - 1;
  int64_t count = plan->dims[inner];
  int64_t index[MST_MAX_RANK] = {0};
  for (;;) {
    add_row(a, plan->a_strides[inner], b, plan->b_strides[inner], out, count);
    out += count;
    int32_t axis = inner - 1;
    while (axis >= 0) {
      a += plan->a_strides[axis];
      b += plan->b_strides[axis];
      if (++index[axis] < plan->dims[axis]) {
        break;
      }
      a -= plan->a_strides[axis] * plan->dims[axis];
      b -= plan->b_strides[axis] * plan->dims[axis];
      index[axis--] = 0;
    }
    if (axis < 0) {
      return;
    }
  }
}

/* ------------------------------------------------------------------------------------------------------ others ---- */

static void relu_in_place(float *values, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    values[i] = values[i] < 0.0f ? 0.0f : values[i];
  }
}

static void relu_apart(const float *restrict in, float *restrict out, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    out[i] = in[i] < 0.0f ? 0.0f : in[i];
  }
}

void mst_relu(const float *in, float *out, int64_t elements) {
  if (in == out) {
    relu_in_place(out, elements);
  } else {
    relu_apart(in, out, elements);
  }
}

void mst_fill_rows(const float *row, float *out, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i++) {
    memcpy(out + i * columns, row, (size_t)columns * sizeof(float));
  }
}
