#!/bin/sh
# run.sh PROGRAM FOLDER MODEL: runs the client of the openai package, in FOLDER, against PROGRAM. Exits
# with 77, which ctest shows as skipped, where that cannot be done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
folder=$2
. "$here/../support/npm_packages.sh"

npm_packages "the openai client"
exec node "$folder/client.mjs" "$program" "$3"
