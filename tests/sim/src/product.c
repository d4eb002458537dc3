/*
 * Simulated Metal: the matrix product.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "product.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_PRODUCTS = 32768 };

/* Plain loops; what orders their accesses is checked per buffer (buffer.m), not per element. */
#define UNCHECKED __attribute__((no_sanitize("thread")))

UNCHECKED static void add_scaled(float *restrict sum, const float *restrict row, size_t length, float factor) {
  for (size_t i = 0; i < length; i++)
    sum[i] += factor * row[i];
}

UNCHECKED void sim_product(struct sim_matrix a, struct sim_matrix b, struct sim_matrix y, float alpha) {
  size_t inner = a.columns < MOST_PRODUCTS ? a.columns : MOST_PRODUCTS;
  float *packed = NULL; /* b by rows, if it lies by columns */
  if (b.column_stride != 1) {
    packed = malloc(inner * b.columns * sizeof(float));
    if (packed == NULL)
      abort();
    for (size_t k = 0; k < inner; k++)
      for (size_t j = 0; j < b.columns; j++)
        packed[k * b.columns + j] = b.data[k * b.row_stride + j * b.column_stride];
    b.data = packed;
    b.row_stride = b.columns;
  }
  float *sums = malloc(b.columns * sizeof(float));
  if (sums == NULL)
    abort();
  for (size_t i = 0; i < a.rows; i++) {
    memset(sums, 0, b.columns * sizeof(float));
    for (size_t k = 0; k < inner; k++)
      add_scaled(sums, b.data + k * b.row_stride, b.columns, alpha * a.data[i * a.row_stride + k * a.column_stride]);
    for (size_t j = 0; j < b.columns; j++)
      y.data[i * y.row_stride + j * y.column_stride] = sums[j];
  }
  free(sums);
  free(packed);
}
