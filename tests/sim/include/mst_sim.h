/*
 * Simulated Metal: what a test sets and asks. The Metal shim knows nothing of it.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every switch is read from the environment when the library is first used (MST_SIM_<NAME>) and can be changed at run
 * time. All functions are thread-safe.
 */
#ifndef MST_SIM_H
#define MST_SIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MST_SIM_API __attribute__((visibility("default")))

/* Sets a switch by the name of its environment variable without MST_SIM_ ("NDARRAY_LIMIT"). Returns 0; -1 if there is
 * no such switch or the value is not one of its values. docs/simulation.md lists them. */
MST_SIM_API int32_t mst_sim_set(const char *name, const char *value);

/* The n-th command buffer (1 = the next) to be executed, on queues whose label contains `queue_label` (NULL = any),
 * fails with `error_code` (MTLCommandBufferError). It signals nothing, as on a Mac. n = 0 takes the order back. */
MST_SIM_API int32_t mst_sim_fail_command_buffer(const char *queue_label, uint32_t n, uint32_t error_code);

/* Whether that is still to come. */
MST_SIM_API bool mst_sim_failure_ordered(void);

/* Keeps every GPU from starting further command buffers, until mst_sim_release. */
MST_SIM_API void mst_sim_hold(void);
MST_SIM_API void mst_sim_release(void);

/* Objective-C objects of the simulation that live now: of one class, or of all (NULL). References to the device beyond
 * the simulation's own count as objects of class SimDevice. */
MST_SIM_API int64_t mst_sim_live_objects(const char *class_name);

/* Writes the living objects by class to stderr; returns their number. */
MST_SIM_API int64_t mst_sim_report_live_objects(void);

/* Waits until every GPU is idle and every handler has returned; then the living objects can be counted. */
MST_SIM_API void mst_sim_quiesce(void);

/* How often the simulation did something since the process began, for tests of the switches: "command_buffers",
 * "failures", "mid_encode_commits", "ndarray_overlaps", "compute_overlaps", "impl_races". -1 for another name. */
MST_SIM_API int64_t mst_sim_counter(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* MST_SIM_H */
