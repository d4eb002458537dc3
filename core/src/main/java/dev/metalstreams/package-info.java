/**
 * Streams, memory, events and graphs on one GPU, for many threads at once.
 *
 * <p>Start at {@link dev.metalstreams.Device}. Everything a device gives out belongs to it and ends
 * with it.
 *
 * <p><b>Order.</b> Work on one {@link dev.metalstreams.DeviceStream stream} runs in the order it
 * was encoded. Work on two streams is unordered unless an {@link dev.metalstreams.DeviceEvent
 * event} orders it: record on one, {@code waitFor} on the other.
 *
 * <p><b>Threads.</b> Every public type here is safe for use by several threads, streams included,
 * unless its page says otherwise. No call waits for the device while it holds a lock, and no
 * virtual thread waits inside native code.
 *
 * <p><b>Interrupts.</b> A wait that is interrupted throws {@link
 * dev.metalstreams.WaitInterruptedException} and leaves the thread's interrupt flag set.
 */
@NullMarked
package dev.metalstreams;

import org.jspecify.annotations.NullMarked;
