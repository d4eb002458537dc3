/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#define MST_SGEMM mst_sgemm_avx2
#define MST_VECTOR 8
#define MST_TILE_ROWS 6
#define MST_TILE_VECTORS 2
#include "sgemm_kernel.h"
