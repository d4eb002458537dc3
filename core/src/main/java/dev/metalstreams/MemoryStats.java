package dev.metalstreams;

/**
 * Memory of a device at one moment, in bytes unless said otherwise.
 *
 * @param allocated in buffers that are open
 * @param active allocated, and closed but still used by work on the device
 * @param reserved held from the driver
 * @param peak the largest {@code allocated} so far
 * @param allocations how many buffers were ever allocated
 */
public record MemoryStats(
    long allocated, long active, long reserved, long peak, long allocations) {}
