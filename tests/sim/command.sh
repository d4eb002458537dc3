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

# expect_repro SUCCESSES COMMAND...: of one round each with 1 to 4 threads, these succeed; "." is either.
expect_repro() {
  successes=$1
  shift
  "$@" --threads 4 --rounds 1 --iterations 20 --json >"$output" || fail "status $? of: $*"
  seen=$(sed 's/{"threads":/\n&/g' "$output" | sed -n 's/^{"threads":[0-9]*,"rounds":1,"succeeded":\([0-9]*\),.*/\1/p' | paste -s -d ' ' -)
  echo "$seen" | grep -q -x -e "$successes" || fail "'$seen' instead of '$successes' of: $*"
  echo "as expected: $seen of: $*"
}

expect 0 '^backend .* metal$' cli/metalstreams info --backend metal
expect 0 '^agx guard .* off$' cli/metalstreams info --backend metal
expect 0 '^agx guard .* on: ' env MST_AGX_GUARD=1 cli/metalstreams info --backend metal
expect 3 '"Apple Paravirtual device": Metal Performance Shaders do not support it' \
  env MST_SIM_DEVICE=paravirtual cli/metalstreams info --backend metal
expect 3 'Metal shows no GPU to this process' env MST_SIM_DEVICE=none cli/metalstreams info --backend metal
expect 2 "MPS_ENABLE_COMMIT_AND_CONTINUE: 'yes' is not" \
  env MPS_ENABLE_COMMIT_AND_CONTINUE=yes cli/metalstreams info --backend metal

expect_repro '1 1 1 1' cli/metalstreams repro ndarray-matmul
expect_repro '1 1 0 0' env MST_SIM_NDARRAY_LIMIT=2 cli/metalstreams repro ndarray-matmul
expect_repro '1 1 0 0' env MST_SIM_NDARRAY_LIMIT=2 MST_SIM_RACE_OUTCOME=garbage cli/metalstreams repro ndarray-matmul
expect_repro '1 1 1 0' env MST_SIM_COMPUTE_LIMIT=3 cli/metalstreams repro compute-kernel
expect_repro '1 . . 0' cli/metalstreams repro shared-command-buffer
expect 3 'cannot be run here: MPSNDArray' env MST_SIM_MACOS=14.0 cli/metalstreams repro ndarray-matmul
