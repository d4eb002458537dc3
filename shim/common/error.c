/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[512];

int32_t mst_error(int32_t status, const char *function, const char *format, ...) {
  /* The message may quote the last one: both are whole before it is overwritten. */
  char message[sizeof(last_error)];
  int length = snprintf(message, sizeof(message), "%s: ", function);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message + length, sizeof(message) - (size_t)length, format, arguments);
  va_end(arguments);
  mst_copy_text(last_error, sizeof(last_error), message);
  return status;
}

const char *mst_last_error(void) {
  return last_error;
}

void mst_copy_text(char *out, size_t capacity, const char *text) {
  if (text == NULL) {
    text = "";
  }
  size_t length = strlen(text);
  if (length > capacity - 1) {
    length = capacity - 1;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) {
      length--;
    }
  }
  memcpy(out, text, length);
  out[length] = '\0';
}
