/*
 * Simulated Metal: the root class of its classes.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_OBJECT_H
#define SIM_OBJECT_H

#import <Foundation/Foundation.h>

/*
 * Counts the living objects of each class, keeps its own reference count (so that ThreadSanitizer sees the order that
 * it gives), and insists on an autorelease pool.
 */
@interface SimObject : NSObject {
  uint32_t _references;
}
@end

#endif /* SIM_OBJECT_H */
