/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* What every machine of the architecture has: SSE2 on x86-64, NEON on arm64. */
#define MST_VECTOR_KERNELS mst_vector_baseline
#define MST_VECTOR 4
#include "vector_kernel.h"
