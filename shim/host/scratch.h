/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_SCRATCH_H
#define MST_HOST_SCRATCH_H

#include <stdint.h>

/* Memory of the executing thread, 64-byte aligned, with undefined content, kept for its next use and freed when the
 * thread ends. */
enum mst_scratch {
  MST_SCRATCH_ARENA, /* intermediate results of an executable */
  MST_SCRATCH_PANEL, /* packed operand of a matrix product */
  MST_SCRATCH_ROWS,  /* its other operand, if that is given transposed */
  MST_SCRATCH_KINDS
};

/* At least `bytes`, valid until this thread asks for the same kind again or trims; NULL if there is no memory. */
void *mst_scratch(enum mst_scratch kind, uint64_t bytes);

/* Gives back what is too large to be kept. */
void mst_scratch_trim(void);

#endif
