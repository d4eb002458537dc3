/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[512];

int32_t mst_error(int32_t status, const char *function, const char *format, ...) {
  int length = snprintf(last_error, sizeof(last_error), "%s: ", function);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error + length, sizeof(last_error) - (size_t)length, format, arguments);
  va_end(arguments);
  return status;
}

const char *mst_last_error(void) {
  return last_error;
}
