/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* What every machine of the architecture has: SSE2 on x86-64, NEON on arm64. */
#define MST_SGEMM mst_sgemm_baseline
#define MST_VECTOR 4
#define MST_TILE_VECTORS 2
#if defined(__aarch64__)
#define MST_TILE_ROWS 8
#else
#define MST_TILE_ROWS 4
#endif
#include "sgemm_kernel.h"
