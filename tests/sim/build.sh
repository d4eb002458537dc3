#!/bin/sh
# Builds the simulated Metal and, from the unmodified sources of shim/metal, libmetalstreams-metal.so on it.
#
#   tests/sim/build.sh [address|thread]      into build/sim, build/sim-address or build/sim-thread
#
# Then, for example:
#   METALSTREAMS_LIBRARY=$PWD/build/sim/libmetalstreams-metal.so bin/metalstreams info --backend metal
#
# Debian packages: clang libgnustep-base-dev cmake. CC chooses another clang.
set -eu
sanitizer=${1:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/build/sim${sanitizer:+-$sanitizer}
compiler=${CC:-clang}
cmake -S "$root/tests/sim" -B "$out" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_OBJC_COMPILER="$compiler" \
  -DMST_SANITIZE="$sanitizer" >/dev/null
cmake --build "$out" --parallel
