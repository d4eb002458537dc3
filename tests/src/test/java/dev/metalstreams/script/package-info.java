/**
 * A device in plain Java whose order of completion a test decides: {@link
 * dev.metalstreams.script.Script} is the remote control, {@link
 * dev.metalstreams.script.ScriptedDriver} the driver.
 */
@NullMarked
package dev.metalstreams.script;

import org.jspecify.annotations.NullMarked;
