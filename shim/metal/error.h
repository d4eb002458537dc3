/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_ERROR_H
#define MST_METAL_ERROR_H

#import <Foundation/Foundation.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/error.h"

/* Writes "description (domain code)"; an error may be nil where Metal gives none. */
void mst_describe_error(NSError *error, char *out, size_t capacity);

/* The status of a command buffer that ended with this error: EXECUTION, OUT_OF_MEMORY or DEVICE_LOST. */
int32_t mst_status_of_error(NSError *error);

#endif
