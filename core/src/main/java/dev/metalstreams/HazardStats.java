package dev.metalstreams;

/**
 * What the race detector of a device has done so far.
 *
 * @param mode the setting
 * @param operations operations that were encoded and looked at; 0 under {@link HazardMode#OFF}
 * @param races races that were thrown or logged
 * @param waits waits that {@link HazardMode#ORDER} has added
 */
public record HazardStats(HazardMode mode, long operations, long races, long waits) {}
