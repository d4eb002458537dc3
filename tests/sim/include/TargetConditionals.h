/*
 * Simulated Metal: what the shim may ask of its target. It is compiled as for a Mac.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_TARGET_CONDITIONALS_H
#define SIM_TARGET_CONDITIONALS_H

#define TARGET_OS_MAC 1
#define TARGET_OS_OSX 1
#define TARGET_OS_IPHONE 0
#define TARGET_OS_SIMULATOR 0

#endif /* SIM_TARGET_CONDITIONALS_H */
