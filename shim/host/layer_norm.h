/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_LAYER_NORM_H
#define MST_HOST_LAYER_NORM_H

#include <stdint.h>

/* See mst_encode_layer_norm. y is none of the others. */
void mst_layer_norm(const float *x, const float *gamma, const float *beta, float *y, uint64_t rows, uint64_t columns,
                    float eps);

#endif
