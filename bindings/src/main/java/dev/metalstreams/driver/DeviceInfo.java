package dev.metalstreams.driver;

/**
 * What is known of a device.
 *
 * @param backend {@code host} or {@code metal}
 * @param name as the driver calls the device
 * @param family GPU family, or CPU architecture
 * @param math what computes matrix products, for people
 * @param recommendedBytes working set that does not swap
 * @param maxBufferBytes largest single buffer
 * @param workers executing threads of the host shim; 0 on a GPU
 * @param maxInFlight most uncompleted command buffers of a queue
 * @param unifiedMemory whether CPU and device share memory
 * @param abiVersion version of the C ABI
 * @param buildId hash of the sources that the native library was built from
 * @param library where the native library was loaded from
 */
public record DeviceInfo(
    String backend,
    String name,
    String family,
    String math,
    long recommendedBytes,
    long maxBufferBytes,
    int workers,
    int maxInFlight,
    boolean unifiedMemory,
    int abiVersion,
    String buildId,
    String library) {}
