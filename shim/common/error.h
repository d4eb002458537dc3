/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_ERROR_H
#define MST_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "mst.h"

/* Keeps "function: message" for mst_last_error of this thread, and returns status. */
int32_t mst_error(int32_t status, const char *function, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Fails the ABI function in whose body it stands. */
#define MST_FAIL(status, ...) mst_error(status, __func__, __VA_ARGS__)

/* Copies a text, cut at a character's border if it is too long; NULL counts as "". */
void mst_copy_text(char *out, size_t capacity, const char *text);

#endif
