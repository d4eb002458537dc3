/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "error.h"

#import <Metal/Metal.h>

void mst_describe_error(NSError *error, char *out, size_t capacity) {
  if (error == nil) {
    mst_copy_text(out, capacity, "Metal reports a failure without an error");
    return;
  }
  NSString *text =
      [NSString stringWithFormat:@"%@ (%@ %ld)", error.localizedDescription, error.domain, (long)error.code];
  mst_copy_text(out, capacity, text.UTF8String);
}

int32_t mst_status_of_error(NSError *error) {
  if (![error.domain isEqualToString:MTLCommandBufferErrorDomain]) {
    return MST_ERROR_EXECUTION;
  }
  switch (error.code) {
    case MTLCommandBufferErrorOutOfMemory:
      return MST_ERROR_OUT_OF_MEMORY;
    case MTLCommandBufferErrorAccessRevoked: /* after repeated faults: nothing of this process runs any more */
    case MTLCommandBufferErrorDeviceRemoved:
      return MST_ERROR_DEVICE_LOST;
    default:
      return MST_ERROR_EXECUTION;
  }
}
