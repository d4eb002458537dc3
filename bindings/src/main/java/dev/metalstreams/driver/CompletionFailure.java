package dev.metalstreams.driver;

/**
 * Why a command buffer failed.
 *
 * @param status what kind of failure
 * @param message the driver's words
 * @param causeQueueId with {@link Status#DEPENDENCY}: the queue whose failure came first; else 0
 * @param causeValue with {@link Status#DEPENDENCY}: the value that failed there; else 0
 */
public record CompletionFailure(
    Status status, String message, long causeQueueId, long causeValue) {}
