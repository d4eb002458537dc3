/** Tests of the script that starts the command. */
@NullMarked
package dev.metalstreams.launcher;

import org.jspecify.annotations.NullMarked;
