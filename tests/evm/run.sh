#!/bin/sh
# run.sh PROGRAM FOLDER: compares PROGRAM's answers with those of viem in FOLDER. Exits with 77, which
# ctest shows as skipped, where that cannot be done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
folder=$2
. "$here/../support/npm_packages.sh"

npm_packages "comparing with viem"
exec node "$folder/compare.mjs" "$program"
