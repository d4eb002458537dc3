package dev.metalstreams.bindings;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PlatformTest {

  @ParameterizedTest
  @CsvSource({
    "Linux, amd64, linux-x86_64, libmetalstreams-host.so",
    "Linux, aarch64, linux-aarch64, libmetalstreams-host.so",
    "Mac OS X, aarch64, macos-aarch64, libmetalstreams-host.dylib",
    "Mac OS X, x86_64, macos-x86_64, libmetalstreams-host.dylib",
    "FreeBSD, riscv64, freebsd-riscv64, libmetalstreams-host.so",
  })
  void namesAreThoseOfThePackedFolders(String os, String arch, String platform, String library) {
    assertThat(Platform.of(os, arch)).hasToString(platform);
    assertThat(Platform.of(os, arch).libraryName("host")).isEqualTo(library);
  }
}
