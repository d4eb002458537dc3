package dev.metalstreams.driver;

/**
 * Memory as the driver counts it.
 *
 * @param allocatedBytes held by buffers and, where the driver tells, by everything else
 * @param bufferCount live buffers
 * @param limitBytes allocations beyond it fail
 */
public record DriverMemory(long allocatedBytes, long bufferCount, long limitBytes) {}
