package dev.metalstreams;

/**
 * Figures of a device's compiled graphs, all of one moment.
 *
 * @param hits requests for a graph that was compiled, or was being compiled, already
 * @param misses requests that compiled
 * @param evictions compiled graphs that had to make room
 * @param size compiled graphs
 * @param inUse of these, those of which an {@link Executable} is open; they are never evicted
 * @param capacity the bound of {@code size}, which only graphs in use may exceed
 */
public record GraphCacheStats(
    long hits, long misses, long evictions, int size, int inUse, int capacity) {}
