#!/bin/sh
# Copyright 2026 The Metal Streams authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the host shim with AddressSanitizer and UndefinedBehaviorSanitizer, then with ThreadSanitizer, and runs its
# tests and the stress driver under each. Any report ends it with a status other than 0.
#
#   shim/test/sanitize.sh BUILD_DIRECTORY
#
# CC chooses the compiler; the default is clang where there is one.
set -eu

if [ $# -ne 1 ]; then
  echo "usage: sanitize.sh BUILD_DIRECTORY" >&2
  exit 2
fi
shim=$(cd "$(dirname "$0")/.." && pwd)
build=$1
if [ -z "${CC:-}" ]; then
  CC=$(command -v clang || command -v cc)
  export CC
fi
export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0"
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1"
if [ "$(uname)" = Darwin ]; then
  export ASAN_OPTIONS="detect_leaks=0:abort_on_error=0"
fi

for sanitizers in address,undefined thread; do
  directory=$build/${sanitizers%%,*}
  echo "== $sanitizers"
  cmake -S "$shim" -B "$directory" -DMST_SANITIZE="$sanitizers" >/dev/null
  cmake --build "$directory" --parallel 2 >/dev/null
  ctest --test-dir "$directory" --output-on-failure
  # Odd seeds shuffle the queues, multiples of three add latency; one worker leaves most work to the waiting threads.
  for seed in 1 2 3; do
    "$directory/test/mst_stress" --threads 8 --iterations 50 --seed $seed
    "$directory/test/mst_stress" --threads 31 --iterations 100 --seed $seed
  done
  "$directory/test/mst_stress" --threads 31 --iterations 100 --workers 1 --seed 4
done
echo "no reports"
