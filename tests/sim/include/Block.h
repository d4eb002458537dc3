/*
 * Simulated Metal: the blocks runtime, as on macOS.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Debian's libBlocksRuntime does not retain the Objective-C objects that a block captures, and its blocks are no
 * objects. Both matter to code that runs handlers after the frame that made them, so the simulation has its own.
 */
#ifndef SIM_BLOCK_H
#define SIM_BLOCK_H

void *_Block_copy(const void *block);
void _Block_release(const void *block);
void _Block_object_assign(void *destination, const void *object, const int flags);
void _Block_object_dispose(const void *object, const int flags);

#define Block_copy(...) ((__typeof(__VA_ARGS__))_Block_copy((const void *)(__VA_ARGS__)))
#define Block_release(...) _Block_release((const void *)(__VA_ARGS__))

#endif /* SIM_BLOCK_H */
