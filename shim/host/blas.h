/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_BLAS_H
#define MST_HOST_BLAS_H

#include <stdbool.h>
#include <stdint.h>

/* One product of row-major matrices: c [m, n] = a [m, k] b [k, n]; a is stored as [k, m], or b as [n, k], if transposed.
 * Rows are dense, and one is a stride of elements behind the other. */
typedef struct mst_product {
  int64_t m;
  int64_t n;
  int64_t k;
  int64_t a_stride;
  int64_t b_stride;
  int64_t c_stride;
  bool transpose_a;
  bool transpose_b;
} mst_product;

/* cblas_sgemm of the CBLAS interface, with its enumerations as int. */
typedef void mst_cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                             const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* What computes matrix products. */
typedef struct mst_blas {
  void *library; /* NULL: the built-in kernel */
  mst_cblas_sgemm *sgemm;
  int64_t builtin_rows; /* small products of at least so many rows are the built-in kernel's all the same; 0: none */
  char name[256];
} mst_blas;

/* Loads what mst_device_options.math_library names. MST_OK, or INVALID_ARGUMENT if it cannot be loaded. */
int32_t mst_blas_open(mst_blas *blas, const char *path);
void mst_blas_close(mst_blas *blas);

/* Computes a product; row: n numbers that are added to each of its rows, or NULL. False: no memory. Which kernel computes
 * it depends on the shape alone, so equal inputs give equal bits in every thread. */
bool mst_blas_multiply(const mst_blas *blas, const mst_product *product, const float *a, const float *b,
                       const float *row, float *c);

#endif
