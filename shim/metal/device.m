/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A device: which one is usable, what its objects share, and how long it lives.
 *
 * The caller's handle, every object of the device and every running completion handler count as a reference. Close
 * drains and drops the handle's reference; the memory goes with the last one. */
#include "device.h"

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#include <stdio.h>
#include <stdlib.h>

#include "agx_guard.h"
#include "error.h"
#include "kernels.h"
#include "platform.h"
#include "queue.h"

#ifndef MST_BUILD_ID
#define MST_BUILD_ID "0000000000000000" /* compiled by hand: the build sets it */
#endif

int32_t mst_abi_version(void) {
  return MST_ABI_VERSION;
}

const char *mst_build_id(void) {
  return MST_BUILD_ID;
}

const char *mst_backend_name(void) {
  return "metal";
}

/* ---------------------------------------------------------------------------------------------------- selection --- */

/* Why a device cannot be used; nil if it can. The oldest family asked for is the one that the paravirtual GPU of a
 * macOS virtual machine reports: every Apple-silicon Mac is newer. */
static NSString *unusable(id<MTLDevice> metal) {
  if (metal.lowPower) {
    return @"it is a low-power GPU beside a better one";
  }
  if (!metal.hasUnifiedMemory) {
    return @"it has memory of its own; only Apple silicon is supported";
  }
  if (![metal supportsFamily:MTLGPUFamilyApple5] && ![metal supportsFamily:MTLGPUFamilyMetal3]) {
    return @"its GPU family is older than Apple5";
  }
  if (!MPSSupportsMTLDevice(metal)) {
    return @"Metal Performance Shaders do not support it";
  }
  return nil;
}

/* The usable devices, the system's default first. Puts the reasons against the others into `why`, if it is not NULL. */
static NSArray<id<MTLDevice>> *usable_devices(NSMutableString *why) {
  NSMutableArray<id<MTLDevice>> *candidates = [NSMutableArray array];
  id<MTLDevice> preferred = [MTLCreateSystemDefaultDevice() autorelease];
  if (preferred != nil) {
    [candidates addObject:preferred];
  }
  /* May be empty although there is a default device, in sandboxes and virtual machines. */
  for (id<MTLDevice> each in [MTLCopyAllDevices() autorelease]) {
    if (preferred == nil || each.registryID != preferred.registryID) {
      [candidates addObject:each];
    }
  }
  NSMutableArray<id<MTLDevice>> *usable = [NSMutableArray array];
  for (id<MTLDevice> each in candidates) {
    NSString *reason = unusable(each);
    if (reason == nil) {
      [usable addObject:each];
    } else {
      [why appendFormat:@"%@\"%@\": %@", why.length > 0 ? @"; " : @"", each.name, reason];
    }
  }
  if (candidates.count == 0) {
    [why appendString:@"Metal shows no GPU to this process (a sandbox, a session without access to the GPU, or a "
                      @"virtual machine without one)"];
  }
  return usable;
}

int32_t mst_device_count(void) {
  @autoreleasepool {
    return (int32_t)usable_devices(nil).count;
  }
}

/* ------------------------------------------------------------------------------------------------------- life ----- */

void mst_device_retain(mst_device *device) {
  atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
}

void mst_device_release(mst_device *device) {
  if (atomic_fetch_sub_explicit(&device->references, 1, memory_order_acq_rel) != 1) {
    return;
  }
  @autoreleasepool {
    mst_kernels_release(atomic_load_explicit(&device->kernels, memory_order_relaxed));
    pthread_cond_destroy(&device->completions.arrived);
    pthread_cond_destroy(&device->idle);
    pthread_mutex_destroy(&device->lock);
    pthread_mutex_destroy(&device->instances_lock);
    free(device->completions.records);
    [device->graph_device release];
    [device->metal release];
    device->tag = MST_TAG_ENDED;
    free(device);
  }
}

int32_t mst_device_open(uint32_t index, const mst_device_options *options, mst_device **out_device) {
  @autoreleasepool {
    if (out_device == NULL) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no out-parameter");
    }
    const mst_device_options defaults = {0, MST_DEVICE_DEFAULT, NULL};
    if (options == NULL) {
      options = &defaults;
    }
    const uint32_t known = MST_DEVICE_FORCE_GRAPH | MST_DEVICE_PARALLEL_COMPUTE | MST_DEVICE_AGX_GUARD;
    if ((options->flags & ~known) != 0) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", options->flags);
    }
    NSMutableString *why = [NSMutableString string];
    NSArray<id<MTLDevice>> *usable = usable_devices(why);
    if (usable.count == 0) {
      return MST_FAIL(MST_ERROR_NO_DEVICE, "no usable Metal device: %s", why.UTF8String);
    }
    if (index >= usable.count) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "there is no device %u, only %lu", index,
                      (unsigned long)usable.count);
    }
    mst_device *device = calloc(1, sizeof(mst_device));
    if (device == NULL) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for a device");
    }
    id<MTLDevice> metal = [usable objectAtIndex:index];
    device->tag = MST_TAG_DEVICE;
    atomic_init(&device->references, 1);
    device->metal = [metal retain];
    device->graph_device = [[MPSGraphDevice deviceWithMTLDevice:metal] retain];
    device->flags = options->flags;
    device->max_buffer_bytes = metal.maxBufferLength;
    /* Beyond the working set the machine swaps long before an allocation fails. */
    device->limit_bytes = metal.recommendedMaxWorkingSetSize;
    if (device->limit_bytes == 0) {
      device->limit_bytes = NSProcessInfo.processInfo.physicalMemory;
    }
    pthread_mutex_init(&device->instances_lock, NULL);
    pthread_mutex_init(&device->lock, NULL);
    pthread_cond_init(&device->idle, NULL);
    pthread_cond_init(&device->completions.arrived, NULL);
    if ((options->flags & MST_DEVICE_AGX_GUARD) != 0) {
      mst_agx_guard_install(metal);
    }
    *out_device = device;
    return MST_OK;
  }
}

int32_t mst_device_close(mst_device *device) {
  @autoreleasepool {
    if (device == NULL) {
      return MST_OK;
    }
    if (!mst_is(device, MST_TAG_DEVICE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not a device");
    }
    mst_lock(device);
    atomic_store_explicit(&device->closed, true, memory_order_relaxed);
    mst_unlock(device);
    mst_queue_end_all_promises(device);
    mst_lock(device);
    pthread_cond_broadcast(&device->completions.arrived);
    while (device->unfinished > 0 || device->handlers > 0 || device->completions.draining > 0) {
      pthread_cond_wait(&device->idle, &device->lock);
    }
    mst_unlock(device);
    mst_device_release(device);
    return MST_OK;
  }
}

/* ------------------------------------------------------------------------------------------------------- facts ---- */

/* The newest family of the Apple and the Metal series, for people: "Apple9, Metal3 (applegpu_g16s)". Families newer
 * than the oldest supported SDK are named by their numbers. */
static NSString *family_name(id<MTLDevice> metal) {
  NSMutableString *name = [NSMutableString string];
  for (NSInteger family = MTLGPUFamilyApple1 + 29; family >= MTLGPUFamilyApple1 && name.length == 0; family--) {
    if ([metal supportsFamily:(MTLGPUFamily)family]) {
      [name appendFormat:@"Apple%ld", (long)(family - MTLGPUFamilyApple1 + 1)];
    }
  }
  for (NSInteger family = MTLGPUFamilyMetal3 + 6; family >= MTLGPUFamilyMetal3; family--) {
    if ([metal supportsFamily:(MTLGPUFamily)family]) {
      [name appendFormat:@"%@Metal%ld", name.length > 0 ? @", " : @"", (long)(family - MTLGPUFamilyMetal3 + 3)];
      break;
    }
  }
  [name appendFormat:@" (%@)", metal.architecture.name];
  return name;
}

int32_t mst_device_info(mst_device *device, mst_device_facts *out_facts) {
  @autoreleasepool {
    if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
    }
    id<MTLDevice> metal = device->metal;
    mst_copy_text(out_facts->name, sizeof(out_facts->name), metal.name.UTF8String);
    mst_copy_text(out_facts->family, sizeof(out_facts->family), family_name(metal).UTF8String);
    mst_copy_text(out_facts->math, sizeof(out_facts->math),
                  (device->flags & MST_DEVICE_FORCE_GRAPH) != 0
                      ? "MPSGraph"
                      : "MPSGraph; MPSNDArrayMatrixMultiplication while one worker stream is live");
    out_facts->recommended_bytes = metal.recommendedMaxWorkingSetSize;
    out_facts->max_buffer_bytes = device->max_buffer_bytes;
    out_facts->worker_count = 0;
    out_facts->max_in_flight = MST_MAX_IN_FLIGHT;
    out_facts->unified_memory = metal.hasUnifiedMemory ? 1 : 0;
    out_facts->reserved = 0;
    return MST_OK;
  }
}

int32_t mst_device_memory(mst_device *device, mst_device_memory_facts *out_facts) {
  @autoreleasepool {
    if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
    }
    /* Metal also counts what MPSGraph allocates for itself; our own figure is the exact one right after a change. */
    uint64_t held = atomic_load(&device->allocated_bytes);
    uint64_t driver = device->metal.currentAllocatedSize;
    out_facts->allocated_bytes = driver > held ? driver : held;
    out_facts->buffer_count = atomic_load(&device->buffer_count);
    out_facts->limit_bytes = device->limit_bytes;
    return MST_OK;
  }
}

int32_t mst_device_counters(mst_device *device, mst_device_counter_facts *out_facts) {
  if (!mst_is(device, MST_TAG_DEVICE) || out_facts == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no device or no out-parameter");
  }
  mst_device_counter_facts facts = {0};
  facts.matmuls_by_graph = atomic_load(&device->matmuls_by_graph);
  facts.matmuls_by_ndarray = atomic_load(&device->matmuls_by_ndarray);
  facts.layer_norms = atomic_load(&device->layer_norms);
  facts.early_commits = atomic_load(&device->early_commits);
  mst_agx_guard_count(&facts);
  *out_facts = facts;
  return MST_OK;
}
