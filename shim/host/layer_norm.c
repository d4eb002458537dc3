/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Layer norm in two passes over a row: the variance is the mean of squared distances, never a difference of large sums.
 * Sums are kept in double precision, in as many parts as a vector has lanes, which the compiler then uses. */
#include "layer_norm.h"

#include <math.h>

enum { PARTS = 8 };

static double total(const double *parts) {
  double sum = 0;
  for (int part = 0; part < PARTS; part++) {
    sum += parts[part];
  }
  return sum;
}

static double sum_of(const float *row, uint64_t columns) {
  double parts[PARTS] = {0};
  uint64_t whole = columns - columns % PARTS;
  for (uint64_t i = 0; i < whole; i += PARTS) {
    for (uint64_t part = 0; part < PARTS; part++) {
      parts[part] += row[i + part];
    }
  }
  for (uint64_t i = whole; i < columns; i++) {
    parts[i - whole] += row[i];
  }
  return total(parts);
}

static double squares_of(const float *row, uint64_t columns, double mean) {
  double parts[PARTS] = {0};
  uint64_t whole = columns - columns % PARTS;
  for (uint64_t i = 0; i < whole; i += PARTS) {
    for (uint64_t part = 0; part < PARTS; part++) {
      double distance = row[i + part] - mean;
      parts[part] += distance * distance;
    }
  }
  for (uint64_t i = whole; i < columns; i++) {
    parts[i - whole] += (row[i] - mean) * (row[i] - mean);
  }
  return total(parts);
}

void mst_layer_norm(const float *x, const float *gamma, const float *beta, float *y, uint64_t rows, uint64_t columns,
                    float eps) {
  for (uint64_t row = 0; row < rows; row++) {
    const float *in = x + row * columns;
    float *out = y + row * columns;
    double mean = sum_of(in, columns) / (double)columns;
    double variance = squares_of(in, columns, mean) / (double)columns;
    float scale = (float)(1 / sqrt(variance + (double)eps));
    for (uint64_t i = 0; i < columns; i++) {
      out[i] = (float)(in[i] - mean) * scale * gamma[i] + beta[i];
    }
  }
}
