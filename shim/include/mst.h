/*
 * Metal Streams: the C ABI between the Java core and a device.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Two libraries export these symbols: the Metal shim (macOS) and the host shim (CPU, Linux and macOS).
 * A process loads one of them; nothing above this header knows which.
 *
 * The model. A device owns queues. A queue runs command buffers one after the other, in the order they were
 * committed, asynchronously to the caller. A command buffer has no handle of its own: it is named by its queue and by
 * the timeline value it will signal. Values of a queue are 1, 2, 3, ... without a gap. At any time a queue has at most
 * one open command buffer, whose value is one more than the last committed one:
 *
 *     mst_commands_begin(q, v)  ->  mst_encode_*(q, v, ...) ...  ->  mst_commands_commit(q, v, flags)
 *
 * so naming a committed buffer again is an exact error (MST_ERROR_INVALID_STATE), never a use of freed memory. When a
 * command buffer is done, in success or in failure, the queue's completed value becomes its value. Completed values
 * never go back; every committed value is reached sooner or later.
 *
 * A host queue has no command buffers: its values are signalled by the CPU (mst_queue_signal), and may be waited for
 * before that. That they are signalled is the caller's promise; the end of the queue or of its device keeps it otherwise.
 *
 * Conventions of all functions
 *   status       int32_t, one of enum mst_status. 0 is success, 1 a timeout, negative an error. On an error nothing has
 *                happened and no out-parameter is written, unless the function says otherwise.
 *   message      mst_last_error() describes the calling thread's last error.
 *   units        lengths and offsets in bytes, times in nanoseconds of CLOCK_MONOTONIC (of mach_absolute_time,
 *                converted, on a Mac), text in UTF-8.
 *   thread-safe  may be called from any threads at once. Functions marked "serialised per queue" may not be called on
 *                the same queue from two threads at once: the caller holds that queue's lock.
 *   blocking     functions marked "never blocks" wait neither for the device nor for a lock held across device work.
 *                Those marked "critical" are moreover a few loads: they may be bound without a thread-state change.
 *   ownership    what a create, open or compile function returns is the caller's, who ends it once with the matching
 *                destroy or close. Objects keep their device alive, so the order of ends is free. No handle may be used
 *                after its end. Pointers that are passed in are read during the call only.
 *   NULL         a NULL handle or out-parameter is MST_ERROR_INVALID_ARGUMENT.
 */
#ifndef MST_H
#define MST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MST_API __attribute__((visibility("default")))
#else
#define MST_API
#endif

/* Raised by every incompatible change of this header. */
#define MST_ABI_VERSION 1

/* Highest rank of a tensor. */
#define MST_MAX_RANK 8

/* Most uncompleted command buffers of one queue, the open one included. */
#define MST_MAX_IN_FLIGHT 64

enum mst_status {
  MST_OK = 0,
  MST_TIMEOUT = 1,                 /* the time ran out before the condition held; not an error */
  MST_ERROR_INVALID_ARGUMENT = -1, /* null, out of range, overflowing or mismatched */
  MST_ERROR_INVALID_STATE = -2,    /* the object exists but does not allow this now (Metal's hard rules) */
  MST_ERROR_OUT_OF_MEMORY = -3,    /* the device or the host has no memory left for this */
  MST_ERROR_NO_DEVICE = -4,        /* no usable device; the message says why */
  MST_ERROR_UNSUPPORTED = -5,      /* valid, but not offered by this backend */
  MST_ERROR_BUSY = -6,             /* the queue has max_in_flight uncompleted command buffers */
  MST_ERROR_COMPILE = -7,          /* the graph could not be compiled */
  MST_ERROR_EXECUTION = -8,        /* a command buffer failed on the device */
  MST_ERROR_DEPENDENCY = -9,       /* a command buffer waited for a value of a failed queue */
  MST_ERROR_DEVICE_LOST = -10,     /* the device is gone; everything on it fails */
  MST_ERROR_INTERNAL = -11         /* a defect of the shim */
};

enum mst_dtype {
  MST_F32 = 1, /* IEEE 754 binary32 */
  MST_F16 = 2  /* IEEE 754 binary16, for storage: see "graph" */
};

enum mst_storage {
  MST_STORAGE_SHARED = 0, /* CPU and device see the same bytes */
  MST_STORAGE_PRIVATE = 1 /* device only: mst_buffer_create gives no contents pointer */
};

enum mst_commit_flags {
  MST_COMMIT_DEFAULT = 0,
  /* The caller waits for this value at once (mst_queue_wait). A shim may leave the work to that wait, to save two
   * thread switches. Only a hint: without such a wait the work still starts within 10 ms. */
  MST_COMMIT_WAITING = 1,
  /* Metal: commit and continue. Ignored by other shims. */
  MST_COMMIT_CONTINUE = 2
};

enum mst_matmul_flags { MST_MATMUL_DEFAULT = 0, MST_MATMUL_TRANSPOSE_B = 1, MST_MATMUL_TRANSPOSE_A = 2 };

enum mst_gelu_flags { MST_GELU_ERF = 0, MST_GELU_TANH = 1 };

enum mst_mean_flags { MST_MEAN_DEFAULT = 0, MST_MEAN_KEEP_DIMS = 1 };

enum mst_encode_flags {
  MST_ENCODE_DEFAULT = 0,
  /* The caller vouches that at most one worker stream is live, and that no other executable is being encoded in the
   * process from the beginning of this call to its end. Metal: a graph that is one matrix product may then go to
   * MPSNDArrayMatrixMultiplication, which costs less to encode than MPSGraph but is not safe beside others of its kind.
   * Ignored by other shims. */
  MST_ENCODE_SOLE = 1
};

/* What computes the matrix products of an executable. */
enum mst_matmul_path {
  MST_PATH_NONE = 0,   /* it has none */
  MST_PATH_CPU = 1,    /* host: mst_device_facts.math says what */
  MST_PATH_GRAPH = 2,  /* MPSGraph */
  MST_PATH_NDARRAY = 3 /* MPSNDArrayMatrixMultiplication */
};

enum mst_device_flags {
  MST_DEVICE_DEFAULT = 0,
  /* Metal: matrix products always by MPSGraph, whatever MST_ENCODE_SOLE says. */
  MST_DEVICE_FORCE_GRAPH = 1,
  /* Metal: compute kernels of several queues are encoded at once. By default one lock of the process serialises their
   * encoding, because concurrent encoding was seen to crash in the driver. */
  MST_DEVICE_PARALLEL_COMPUTE = 2,
  /* Metal: keeps every open encoder of the process apart from a driver's destruction of another; see
   * mst_device_counter_facts.agx_guard. Stays on until the process ends. */
  MST_DEVICE_AGX_GUARD = 4
};

typedef struct mst_device mst_device;
typedef struct mst_queue mst_queue;
typedef struct mst_buffer mst_buffer;
typedef struct mst_graph mst_graph;
typedef struct mst_executable mst_executable;

/* ------------------------------------------------------------------------------------------------- library -------- */

/* The MST_ABI_VERSION this library was built with. Thread-safe; critical. */
MST_API int32_t mst_abi_version(void);

/* Hash of the sources this library was built from: 16 hexadecimal digits. Two libraries with the same id were built
 * from the same sources. Static storage. Thread-safe; critical. */
MST_API const char *mst_build_id(void);

/* "host" or "metal". Static storage. Thread-safe; critical. */
MST_API const char *mst_backend_name(void);

/* What the calling thread's last failed call complained of; "" if none failed yet. Valid until this thread's next call
 * into the library. Thread-safe; never blocks. */
MST_API const char *mst_last_error(void);

/* ------------------------------------------------------------------------------------------------- device --------- */

typedef struct mst_device_options {
  /* Host: threads that execute command buffers; 0 = one per CPU the process may use. Metal: ignored. */
  uint32_t worker_count;
  uint32_t flags; /* enum mst_device_flags; other shims than Metal ignore them */
  /* Host: path of a library with the CBLAS function cblas_sgemm, loaded and set to one thread per call. NULL = the
   * system's (Accelerate on a Mac), else the built-in C kernel; "builtin" = the built-in C kernel. A path that cannot be
   * loaded is an error, never a silent fallback. Metal: ignored. */
  const char *math_library;
} mst_device_options;

typedef struct mst_device_facts {
  char name[128];             /* as the driver calls it */
  char family[64];            /* GPU family, or the CPU architecture */
  char math[256];             /* what computes matrix products, for people */
  uint64_t recommended_bytes; /* working set that does not swap */
  uint64_t max_buffer_bytes;  /* largest single buffer */
  uint32_t worker_count;      /* host: executing threads; metal: 0 */
  uint32_t max_in_flight;     /* largest max_in_flight of mst_queue_create */
  int32_t unified_memory;     /* 1: shared storage costs no copy */
  int32_t reserved;           /* 0 */
} mst_device_facts;

typedef struct mst_device_memory_facts {
  uint64_t allocated_bytes; /* held by buffers and, where the driver tells, by everything else */
  uint64_t buffer_count;    /* live mst_buffer objects */
  uint64_t limit_bytes;     /* allocations beyond it fail */
} mst_device_memory_facts;

/* Metal: whether MST_DEVICE_AGX_GUARD is at work. */
enum mst_agx_guard {
  MST_AGX_GUARD_OFF = 0,      /* not asked for */
  MST_AGX_GUARD_ON = 1,       /* at work */
  MST_AGX_GUARD_NO_TARGET = 2 /* asked for, but this driver's encoders are not of the kind that it guards */
};

/* Counts since the device was opened; those of the guard, since the process began. */
typedef struct mst_device_counter_facts {
  uint64_t matmuls_by_graph;   /* matrix products encoded: by MPSGraph; host: all */
  uint64_t matmuls_by_ndarray; /* by MPSNDArrayMatrixMultiplication */
  uint64_t layer_norms;        /* mst_encode_layer_norm */
  uint64_t early_commits;      /* Metal: command buffers that MPSGraph committed in the middle of an encode */
  uint64_t agx_acquisitions;   /* times that an encoder or a destruction took the guard's gate */
  uint64_t agx_contentions;    /* of these, how many had to wait for another thread */
  uint64_t agx_live_encoders;  /* encoders open at this moment */
  uint64_t agx_forced_ends;    /* encoders destroyed, or waited for beyond the guard's limit, while still open */
  int32_t agx_guard;           /* enum mst_agx_guard */
  int32_t reserved;            /* 0 */
} mst_device_counter_facts;

/* Number of usable devices, 0 or more. Thread-safe; never blocks. */
MST_API int32_t mst_device_count(void);

/* Opens device `index` (0 <= index < mst_device_count()). options may be NULL for the defaults.
 * Errors: NO_DEVICE, INVALID_ARGUMENT (index, math library), OUT_OF_MEMORY.
 * Thread-safe; may block while a driver starts. */
MST_API int32_t mst_device_open(uint32_t index, const mst_device_options *options, mst_device **out_device);

/* Writes what is known of the device. Thread-safe; never blocks. */
MST_API int32_t mst_device_info(mst_device *device, mst_device_facts *out_facts);

/* Writes the memory figures of this moment. Thread-safe; never blocks. */
MST_API int32_t mst_device_memory(mst_device *device, mst_device_memory_facts *out_facts);

/* Writes the counters of this moment. Thread-safe; never blocks. */
MST_API int32_t mst_device_counters(mst_device *device, mst_device_counter_facts *out_facts);

/* Ends the caller's use of the device: host queues end as by mst_queue_destroy, but for their memory; committed work
 * runs to its end, threads in mst_device_next_completions and in mst_queue_wait return, later calls that take this device
 * are not allowed. Memory and threads go with the last object of the device. Blocks until committed work is done. NULL is
 * allowed and does nothing. */
MST_API int32_t mst_device_close(mst_device *device);

/* ------------------------------------------------------------------------------------------------- completions ---- */

/* One per committed command buffer, and one per signal of a host queue. */
typedef struct mst_completion {
  uint64_t queue_id;     /* the id given to mst_queue_create */
  uint64_t value;        /* the value the command buffer, or the host, signalled */
  uint64_t gpu_start_ns; /* when the device began and ended it; 0, 0 if it never ran */
  uint64_t gpu_end_ns;
  uint64_t cause_queue_id; /* status DEPENDENCY: queue and value that failed first; else 0, 0 */
  uint64_t cause_value;
  int32_t status;    /* MST_OK, EXECUTION, DEPENDENCY, OUT_OF_MEMORY or DEVICE_LOST */
  int32_t reserved;  /* 0 */
  char message[200]; /* "" when MST_OK */
} mst_completion;

/* Takes up to `capacity` completions, oldest first, and writes their number; waits up to timeout_ns (< 0: without
 * limit, 0: not at all) for the first. MST_OK with a count of 0 after mst_device_wake, MST_TIMEOUT after the time.
 * A completion is in this queue before the value it reports can be seen, and the completion of a failure is before
 * those that depend on it; those of one queue come in the order of their values. Whoever has taken a completion sees
 * its value: begin(), reset() and mst_buffer_destroy() no longer count that command buffer as uncompleted.
 * Meant for one draining thread; safe from several. Blocks. */
MST_API int32_t mst_device_next_completions(mst_device *device, mst_completion *out_completions, int32_t capacity,
                                            int64_t timeout_ns, int32_t *out_count);

/* Makes one present or, if there is none, the next call of mst_device_next_completions return at once.
 * Thread-safe; never blocks. */
MST_API int32_t mst_device_wake(mst_device *device);

/* ------------------------------------------------------------------------------------------------- queue ---------- */

/* Creates a queue. `id` comes back in completions and must be unique in the device. `label` is for debuggers; may be
 * NULL. 1 <= max_in_flight <= MST_MAX_IN_FLIGHT. Thread-safe; never blocks. */
MST_API int32_t mst_queue_create(mst_device *device, uint64_t id, const char *label, uint32_t max_in_flight,
                                 mst_queue **out_queue);

/* Creates a host queue: no command buffer can be begun on it (INVALID_STATE). id and label as above; an id is unique among
 * the queues of both kinds. Thread-safe; never blocks. */
MST_API int32_t mst_queue_create_host(mst_device *device, uint64_t id, const char *label, mst_queue **out_queue);

/* Completes all values of a host queue up to `value`, which is greater than the last signalled one; there may be gaps. What
 * waits for them, on the device and in mst_queue_wait, goes on, with all that the calling thread has written in sight.
 * failure is NULL, or says what went wrong: then all these values fail, and command buffers that wait for one of them, or for
 * a later one, end with DEPENDENCY; the first of them is the failed value and the cause. One completion is reported, of
 * `value`, without times; a failure has status EXECUTION and this message, cut to its length.
 * INVALID_STATE if queue is no host queue, if `value` is signalled already, or once the device is closed.
 * Thread-safe; never blocks. */
MST_API int32_t mst_queue_signal(mst_queue *queue, uint64_t value, const char *failure);

/* The greatest value whose command buffer is done, 0 before the first. All that it wrote is visible to the caller.
 * queue must not be NULL. Thread-safe; critical. */
MST_API uint64_t mst_queue_completed_value(mst_queue *queue);

/* The value of the first command buffer that failed since the last reset, 0 if none. It is set before that value is
 * completed: who has seen completed >= v, and then failed == 0 or failed > v, knows that v succeeded.
 * queue must not be NULL. Thread-safe; critical. */
MST_API uint64_t mst_queue_failed_value(mst_queue *queue);

/* Waits until `value` is completed, at most timeout_ns (< 0: without limit, 0: only looks). MST_OK when it is, whether
 * the work succeeded or not (see mst_queue_failed_value), MST_TIMEOUT when not. INVALID_STATE if `value` is not
 * committed: such a wait could never end. On a host queue every value may be awaited; INVALID_STATE if it ends first. The
 * waiting thread may itself execute work of the device. Thread-safe; blocks. */
MST_API int32_t mst_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns);

/* Forgets the failure of an idle queue; a host queue always is. INVALID_STATE while a command buffer is open or
 * uncompleted. Serialised per queue; never blocks. */
MST_API int32_t mst_queue_reset(mst_queue *queue);

/* Ends a queue. An open command buffer is discarded, committed ones run to their end and are still reported. A host queue
 * may end while command buffers wait for it: what they wait for is signalled as a failure. Threads in mst_queue_wait
 * return first.
 * Serialised per queue; blocks until committed work is done. NULL is allowed and does nothing. */
MST_API int32_t mst_queue_destroy(mst_queue *queue);

/* ------------------------------------------------------------------------------------------------- commands ------- */

/* Opens the command buffer that will signal `value`, which is one more than the last committed value.
 * INVALID_STATE if one is open or the value is not the next; BUSY if max_in_flight are uncompleted.
 * Serialised per queue; never blocks. */
MST_API int32_t mst_commands_begin(mst_queue *queue, uint64_t value);

/* Commits the open command buffer `value`; it may be empty. flags: enum mst_commit_flags. INVALID_STATE if `value` is
 * not open (committed already, discarded, never begun).
 * Serialised per queue; never blocks. */
MST_API int32_t mst_commands_commit(mst_queue *queue, uint64_t value, uint32_t flags);

/* Drops the open command buffer `value`; the same value is begun again next. INVALID_STATE as for commit.
 * Serialised per queue; never blocks. */
MST_API int32_t mst_commands_discard(mst_queue *queue, uint64_t value);

/* ------------------------------------------------------------------------------------------------- encode --------- */

/* Each encodes one operation at the end of the open command buffer `value` of `queue`; operations run in order.
 * INVALID_STATE if `value` is not open. Buffers must belong to the queue's device and must not be destroyed before
 * `value` is completed (mst_buffer_destroy refuses). After an error the command buffer is as before the call.
 * Serialised per queue; never block. */

/* Work after this begins only once `awaited_value` of `awaited_queue` is completed. The value must be committed
 * already (INVALID_STATE: it could otherwise wait forever); on a host queue it may be any. If that queue had failed at or
 * before this value, the command buffer ends with MST_ERROR_DEPENDENCY, and what it would have written after the wait is
 * undefined: a shim stops at the wait where it can (host: always; Metal: if the failure was known when the wait was
 * encoded). A command buffer that fails, for this or another reason, still is not completed before all that it waits for,
 * and the first failure counts. Both queues belong to one device, and awaited_queue, unless it is a host queue, is not
 * destroyed before `value` is completed. The queue itself is allowed and is a no-op. */
MST_API int32_t mst_encode_wait(mst_queue *queue, uint64_t value, mst_queue *awaited_queue, uint64_t awaited_value);

/* Sets `length` bytes from `offset` to `byte`. */
MST_API int32_t mst_encode_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                                uint8_t byte);

/* Copies `length` bytes. Overlapping ranges of one buffer are INVALID_ARGUMENT. */
MST_API int32_t mst_encode_copy(mst_queue *queue, uint64_t value, mst_buffer *source, uint64_t source_offset,
                                mst_buffer *target, uint64_t target_offset, uint64_t length);

/* Runs an executable. buffers: its inputs in the order of mst_graph_input, then its outputs in the order of
 * mst_graph_output; count is the number of both. Tensors start at offset 0, are dense and row-major; each buffer is at
 * least as long as its tensor. An output that is also an input or another output is INVALID_ARGUMENT.
 * flags: enum mst_encode_flags. Metal: the first use of an executable on a queue compiles it for that queue. */
MST_API int32_t mst_encode_executable(mst_queue *queue, uint64_t value, mst_executable *executable,
                                      mst_buffer *const *buffers, int32_t count, uint32_t flags);

/* Normalises each of `rows` rows of `columns` F32 elements: y = (x - mean) / sqrt(variance + eps) * gamma + beta, with
 * the row's mean and its biased variance, taken in a second pass over the row. x and y hold rows * columns elements,
 * gamma and beta `columns`; all are dense and start at offset 0. y must be none of the others, rows and columns are 1 to
 * UINT32_MAX, eps is finite and not negative: INVALID_ARGUMENT. */
MST_API int32_t mst_encode_layer_norm(mst_queue *queue, uint64_t value, mst_buffer *x, mst_buffer *gamma,
                                      mst_buffer *beta, mst_buffer *y, uint64_t rows, uint64_t columns, float eps);

/* ------------------------------------------------------------------------------------------------- buffer --------- */

/* Creates a buffer of `bytes` > 0, content undefined. storage: enum mst_storage. out_contents may be NULL; it receives
 * the CPU address (64-byte aligned at least), NULL for private storage. It is valid until the buffer's end.
 * Errors: INVALID_ARGUMENT (0 or more than max_buffer_bytes), OUT_OF_MEMORY. Thread-safe; never blocks. */
MST_API int32_t mst_buffer_create(mst_device *device, uint64_t bytes, int32_t storage, mst_buffer **out_buffer,
                                  void **out_contents);

/* Ends a buffer. INVALID_STATE, and the buffer lives on, while the open or an uncompleted command buffer uses it.
 * Thread-safe; never blocks. NULL is allowed and does nothing. */
MST_API int32_t mst_buffer_destroy(mst_buffer *buffer);

/* ------------------------------------------------------------------------------------------------- graph ---------- */

/* A graph describes a computation and is built by one thread at a time; node ids count from 0. Shapes are checked as
 * nodes are added: INVALID_ARGUMENT names operation and shapes. dims are > 0, rank is 0..MST_MAX_RANK, and the tensor's
 * size in bytes fits into 63 bits. Operands of one operation have one dtype, which is that of the result. Unknown flags
 * are INVALID_ARGUMENT. Axes count from 0. Graph functions never block.
 *
 * MST_F16 says how inputs, constants and outputs are stored. A shim computes with at least the precision of the dtype: the
 * host in binary32 from the inputs to the outputs. Storing rounds to nearest, ties to even; beyond the range to infinity.
 *
 * NaN and infinities go through every operation as IEEE 754 says, unless the operation says otherwise. */

MST_API int32_t mst_graph_create(mst_device *device, mst_graph **out_graph);

/* dtype: enum mst_dtype. dims may be NULL for rank 0. */
MST_API int32_t mst_graph_input(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, int32_t *out_node);

/* Elements that belong to the graph, dense and row-major; `bytes` is the size of the tensor, or it is INVALID_ARGUMENT.
 * They are copied. */
MST_API int32_t mst_graph_constant(mst_graph *graph, int32_t dtype, const int64_t *dims, int32_t rank, const void *data,
                                   uint64_t bytes, int32_t *out_node);

/* The same elements as `dtype`; to the dtype that a has already is allowed. F32 to F16 rounds. */
MST_API int32_t mst_graph_cast(mst_graph *graph, int32_t a, int32_t dtype, int32_t *out_node);

/* a [..., M, K] times b [..., K, N] gives [..., M, N]. With MST_MATMUL_TRANSPOSE_A a is [..., K, M], with
 * MST_MATMUL_TRANSPOSE_B b is [..., N, K]. Ranks are at least 2. Leading dims are equal, or b has rank 2 and is used for
 * each. */
MST_API int32_t mst_graph_matmul(mst_graph *graph, int32_t a, int32_t b, uint32_t flags, int32_t *out_node);

/* a + b, a - b, a * b, a / b with NumPy's broadcasting. */
MST_API int32_t mst_graph_add(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node);
MST_API int32_t mst_graph_subtract(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node);
MST_API int32_t mst_graph_multiply(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node);
MST_API int32_t mst_graph_divide(mst_graph *graph, int32_t a, int32_t b, int32_t *out_node);

/* max(a, 0); NaN stays NaN. */
MST_API int32_t mst_graph_relu(mst_graph *graph, int32_t a, int32_t *out_node);

/* 1 / (1 + exp(-a)) */
MST_API int32_t mst_graph_sigmoid(mst_graph *graph, int32_t a, int32_t *out_node);

MST_API int32_t mst_graph_tanh(mst_graph *graph, int32_t a, int32_t *out_node);

/* a * Phi(a), Phi the distribution function of the normal distribution: a / 2 * (1 + erf(a / sqrt(2))). With
 * MST_GELU_TANH its approximation a / 2 * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 * a^3))). The limits at -infinity and
 * infinity are 0 and infinity. flags: enum mst_gelu_flags. */
MST_API int32_t mst_graph_gelu(mst_graph *graph, int32_t a, uint32_t flags, int32_t *out_node);

/* exp(a - m) / sum(exp(a - m)) along the last axis, m the maximum of the row: rows of any finite elements give no NaN, and
 * an element of -infinity gives 0 beside finite ones. Rank is at least 1. */
MST_API int32_t mst_graph_softmax(mst_graph *graph, int32_t a, int32_t *out_node);

/* (a - mean) / sqrt(variance + eps) * gamma + beta along the last axis, with the row's mean and its biased variance, taken
 * from the differences to the mean in a second pass over the row. a has rank 1 at least, gamma and beta are [N] with N the
 * last dim of a. eps is finite and not negative. */
MST_API int32_t mst_graph_layer_norm(mst_graph *graph, int32_t a, int32_t gamma, int32_t beta, float eps,
                                     int32_t *out_node);

/* The mean over `count` >= 1 different axes. Their dims disappear, or become 1 with MST_MEAN_KEEP_DIMS. flags: enum
 * mst_mean_flags. */
MST_API int32_t mst_graph_mean(mst_graph *graph, int32_t a, const int32_t *axes, int32_t count, uint32_t flags,
                               int32_t *out_node);

/* The same elements in the same row-major order, with other dims of the same product. dims may be NULL for rank 0. */
MST_API int32_t mst_graph_reshape(mst_graph *graph, int32_t a, const int64_t *dims, int32_t rank, int32_t *out_node);

/* Dim i of the result is dim permutation[i] of a. count is the rank of a, and permutation names each axis once; it may be
 * NULL for rank 0. */
MST_API int32_t mst_graph_transpose(mst_graph *graph, int32_t a, const int32_t *permutation, int32_t count,
                                    int32_t *out_node);

/* `count` >= 1 tensors one after the other along an axis; the other dims are equal. */
MST_API int32_t mst_graph_concat(mst_graph *graph, const int32_t *nodes, int32_t count, int32_t axis,
                                 int32_t *out_node);

/* The elements of a with starts[i] <= position < ends[i] on each axis i. count is the rank of a and at least 1;
 * 0 <= starts[i] < ends[i] <= dim i. */
MST_API int32_t mst_graph_slice(mst_graph *graph, int32_t a, const int64_t *starts, const int64_t *ends, int32_t count,
                                int32_t *out_node);

/* Makes a node the next output. An input or a constant may not be an output, and a node only once. */
MST_API int32_t mst_graph_output(mst_graph *graph, int32_t node);

/* Ends a graph; executables made from it live on. NULL is allowed and does nothing. */
MST_API int32_t mst_graph_destroy(mst_graph *graph);

/* Compiles a graph with at least one output. Thread-safe (the graph is only read); may take long. */
MST_API int32_t mst_graph_compile(mst_graph *graph, mst_executable **out_executable);

/* Writes which path (enum mst_matmul_path) its matrix products take when it is encoded with these flags (enum
 * mst_encode_flags) on this device. Thread-safe; never blocks. */
MST_API int32_t mst_executable_path(mst_executable *executable, uint32_t flags, int32_t *out_path);

/* Ends an executable. Command buffers that use it keep it until they are done. Thread-safe; never blocks. NULL is
 * allowed and does nothing. */
MST_API int32_t mst_executable_destroy(mst_executable *executable);

#ifdef __cplusplus
}
#endif

#endif /* MST_H */
