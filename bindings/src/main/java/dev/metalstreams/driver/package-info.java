/**
 * The seam between the core and a device: {@link dev.metalstreams.driver.Driver} and what it speaks
 * in. No native type crosses it, so a driver can as well be written in pure Java.
 */
@NullMarked
package dev.metalstreams.driver;

import org.jspecify.annotations.NullMarked;
