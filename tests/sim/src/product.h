/*
 * Simulated Metal: the matrix product.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_PRODUCT_H
#define SIM_PRODUCT_H

#include <stddef.h>

struct sim_matrix {
  float *data;
  size_t rows;
  size_t columns;
  size_t row_stride;
  size_t column_stride;
};

/* y = alpha * a * b. Like the GPUs that the simulation is modelled on, it sums no more than 32768 products. */
void sim_product(struct sim_matrix a, struct sim_matrix b, struct sim_matrix y, float alpha);

#endif /* SIM_PRODUCT_H */
