package dev.metalstreams.bindings;

import dev.metalstreams.driver.Driver;
import dev.metalstreams.driver.DriverOptions;
import dev.metalstreams.driver.DriverProvider;
import java.nio.file.Path;

/** Opens drivers over the C ABI. Nothing native happens before {@link #open}. */
public final class FfmDriverProvider implements DriverProvider {

  /** For {@link java.util.ServiceLoader}. */
  public FfmDriverProvider() {}

  @Override
  public Driver open(DriverOptions options) {
    Platform platform = Platform.current();
    Resources resources = Resources.ofClassPath();
    LibraryCache cache = LibraryCache.ofUser();
    NativeLibrary library =
        NativeLibrary.load(options.backend(), options.libraryPath(), platform, resources, cache);
    String math = options.mathLibrary();
    if (math.equals("auto")) {
      Path packed = OpenBlas.place(platform, resources, cache);
      return FfmDriver.open(
          library, options.workers(), packed == null ? null : packed.toString(), options.flags());
    }
    return FfmDriver.open(library, options.workers(), math, options.flags());
  }
}
