/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOOKS_H
#define MST_HOOKS_H

/* The common sources in a shim with test hooks, which is the host's, have them as the rest of it does; in another they
 * have none. */
#ifdef MST_TEST_HOOKS
#include "../host/test_hooks.h"
#else
#define MST_ENTER(function) ((void)0)
#define MST_COUNT_LIVE(objects, change) ((void)0)
#endif

#endif
