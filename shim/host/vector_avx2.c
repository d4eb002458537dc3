/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#define MST_VECTOR_KERNELS mst_vector_avx2
#define MST_VECTOR 8
#include "vector_kernel.h"
