/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_METAL_AGX_GUARD_H
#define MST_METAL_AGX_GUARD_H

#import <Metal/Metal.h>

#include "mst.h"

/* Keeps open encoders apart from a destruction of another, in the whole process. See agx_guard.m. Never called, it
 * costs nothing: no method is replaced. */

/* Puts the guard between this device's driver and the process. Does nothing the second time. Thread-safe. */
void mst_agx_guard_install(id<MTLDevice> metal);

/* Fills in the agx_ fields. Thread-safe. */
void mst_agx_guard_count(mst_device_counter_facts *out_facts);

#endif
