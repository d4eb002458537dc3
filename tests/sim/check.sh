#!/bin/sh
# Runs everything native that there is of the simulation and of the Metal shim on it, plain, under AddressSanitizer and
# under ThreadSanitizer. Any report, and any Objective-C object that is left, ends it with a status other than 0.
#
#   tests/sim/check.sh
#
# Debian packages: clang libgnustep-base-dev cmake. CC chooses another clang.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
for sanitizer in "" address thread; do
  echo "== ${sanitizer:-plain}"
  "$root/tests/sim/build.sh" $sanitizer >/dev/null
  build=$root/build/sim${sanitizer:+-$sanitizer}
  ctest --test-dir "$build" --output-on-failure
  "$build/mst_stress" --threads 31 --iterations 100 --seed 2
done
