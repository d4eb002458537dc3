/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_SGEMM_H
#define MST_HOST_SGEMM_H

#include <stdbool.h>

#include "blas.h"

/* The built-in matrix product; row as in mst_blas_multiply. False: no memory. */
bool mst_sgemm(const mst_product *product, const float *a, const float *b, const float *row, float *c);

/* The instruction set it uses here: "AVX-512", "NEON", ... */
const char *mst_sgemm_variant(void);

/* From so many rows on, it multiplies small matrices faster than OpenBLAS; 0: not measured to. */
int64_t mst_sgemm_rows_ahead(void);

#endif
