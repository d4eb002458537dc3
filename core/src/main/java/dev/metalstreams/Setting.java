package dev.metalstreams;

/**
 * One resolved setting.
 *
 * @param name short name
 * @param value the value in force, as text
 * @param source where it came from: {@code builder}, {@code property}, {@code environment} or
 *     {@code default}
 * @param property system property that sets it
 * @param environment environment variable that sets it
 * @param description what it does, and the values it takes
 */
public record Setting(
    String name,
    String value,
    String source,
    String property,
    String environment,
    String description) {}
