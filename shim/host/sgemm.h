/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_SGEMM_H
#define MST_HOST_SGEMM_H

#include <stdbool.h>

#include "blas.h"

/* The built-in matrix product. False: no memory. */
bool mst_sgemm(const mst_product *product, const float *a, const float *b, float *c);

/* The instruction set it uses here: "AVX-512", "NEON", ... */
const char *mst_sgemm_variant(void);

#endif
