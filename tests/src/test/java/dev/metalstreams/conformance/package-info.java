/** What every driver must do, written once and run on each of them. */
@NullMarked
package dev.metalstreams.conformance;

import org.jspecify.annotations.NullMarked;
