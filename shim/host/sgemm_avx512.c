/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#define MST_SGEMM mst_sgemm_avx512
#define MST_VECTOR 16
#define MST_TILE_ROWS 8
#define MST_TILE_VECTORS 2
#include "sgemm_kernel.h"
