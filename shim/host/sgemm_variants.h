/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_SGEMM_VARIANTS_H
#define MST_HOST_SGEMM_VARIANTS_H

#include <stdbool.h>

#include "blas.h"

/* The built-in matrix product, compiled for different instruction sets. */
bool mst_sgemm_baseline(const mst_product *product, const float *a, const float *b, const float *row, float *c);
#if defined(__x86_64__)
bool mst_sgemm_avx2(const mst_product *product, const float *a, const float *b, const float *row, float *c);
bool mst_sgemm_avx512(const mst_product *product, const float *a, const float *b, const float *row, float *c);
#endif

#endif
