#!/bin/sh
# run.sh PROGRAM…: runs PROGRAM beside a chain of its own with the contracts on it. Exits with 77,
# which ctest shows as skipped, where that cannot be done.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
sh "$root/contracts/test/ctest.sh" install
exec node "$root/contracts/with_chain.mjs" "$@"
