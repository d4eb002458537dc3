/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_OBJECT_H
#define MST_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mst.h"

/* First field of every object behind a handle: tells a handle of the wrong type, or one that was ended a moment ago. */
enum mst_tag {
  MST_TAG_DEVICE = 0x4d535444,
  MST_TAG_QUEUE = 0x4d535451,
  MST_TAG_BUFFER = 0x4d535442,
  MST_TAG_GRAPH = 0x4d535447,
  MST_TAG_EXECUTABLE = 0x4d535445,
  MST_TAG_ENDED = 0x4d535400
};

/* False for NULL, too. */
static inline bool mst_is(const void *object, uint32_t tag) {
  return object != NULL && *(const uint32_t *)object == tag;
}

/* Every object of a device keeps it alive. Each shim has a device of its own. */
void mst_device_retain(mst_device *device);
void mst_device_release(mst_device *device);

#endif
