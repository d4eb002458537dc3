#!/bin/sh
# The command on the simulated Metal: what it says of GPUs that it cannot use, the paths of matrix products, and the known
# defects, switched on. Each needs a process of its own, with the switches in its environment. Needs build.sh.
#
#   tests/sim/command.sh
set -eu
cd "$(dirname "$0")/../.."
METALSTREAMS_LIBRARY=$PWD/build/sim/libmetalstreams-metal.so
export METALSTREAMS_LIBRARY
output=$(mktemp)
trap 'rm -f "$output"' EXIT

fail() {
  echo "tests/sim/command.sh: $1" >&2
  cat "$output" >&2
  exit 1
}

# expect STATUS TEXT COMMAND...: the command ends so and says so.
expect() {
  expected=$1
  text=$2
  shift 2
  status=0
  "$@" >"$output" 2>&1 || status=$?
  [ "$status" = "$expected" ] || fail "status $status, not $expected, of: $*"
  grep -q -e "$text" "$output" || fail "'$text' is not what this said: $*"
  echo "as expected: $*"
}

# Runs a defect with 1 to 4 threads and prints the number of threads and of successes, of 2 rounds each.
repro() {
  "$@" --threads 4 --rounds 2 --iterations 20 --json >"$output" || fail "status $? of: $*"
  sed 's/{"threads":/\n&/g' "$output" | sed -n 's/^{"threads":\([0-9]*\),"rounds":2,"succeeded":\([0-9]*\),.*/\1:\2/p' | paste -s -d ' ' -
}

# expect_repro SUCCESSES COMMAND...
expect_repro() {
  successes=$1
  shift
  seen=$(repro "$@")
  [ "$seen" = "$successes" ] || fail "'$seen' instead of '$successes' of: $*"
  echo "as expected: $successes of: $*"
}

expect 0 '^backend .* metal$' cli/metalstreams info --backend metal
expect 0 '^agx guard .* off$' cli/metalstreams info --backend metal
expect 0 '^agx guard .* on: ' env MST_AGX_GUARD=1 cli/metalstreams info --backend metal
expect 3 '"Apple Paravirtual device": Metal Performance Shaders do not support it' \
  env MST_SIM_DEVICE=paravirtual cli/metalstreams info --backend metal
expect 3 'Metal shows no GPU to this process' env MST_SIM_DEVICE=none cli/metalstreams info --backend metal
expect 2 "MPS_ENABLE_COMMIT_AND_CONTINUE: 'yes' is not" \
  env MPS_ENABLE_COMMIT_AND_CONTINUE=yes cli/metalstreams info --backend metal

# threads:rounds of 2 that succeeded
expect_repro '1:2 2:2 3:2 4:2' cli/metalstreams repro ndarray-matmul
expect_repro '1:2 2:2 3:0 4:0' env MST_SIM_NDARRAY_LIMIT=2 cli/metalstreams repro ndarray-matmul
expect_repro '1:2 2:2 3:0 4:0' env MST_SIM_NDARRAY_LIMIT=2 MST_SIM_RACE_OUTCOME=garbage cli/metalstreams repro ndarray-matmul
expect_repro '1:2 2:2 3:2 4:0' env MST_SIM_COMPUTE_LIMIT=3 cli/metalstreams repro compute-kernel
expect_repro '1:2 2:0 3:0 4:0' cli/metalstreams repro shared-command-buffer
expect 3 'cannot be run here: MPSNDArray' env MST_SIM_MACOS=14.0 cli/metalstreams repro ndarray-matmul
