/*
 * Simulated Metal: where GNUstep's headers look for the blocks runtime.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <Block.h>
