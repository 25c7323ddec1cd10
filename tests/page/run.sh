#!/bin/sh
# run.sh PROGRAM FOLDER MODEL: opens the page of a coordinator in Debian's chromium, by
# playwright-core in FOLDER. Exits with 77, which ctest shows as skipped, where that cannot be done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
folder=$2
. "$here/../support/npm_packages.sh"

if ! command -v chromium >/dev/null; then
  echo "skipped: there is no chromium"
  exit 77
fi
npm_packages "the page's test"
exec node "$folder/page.mjs" "$program" "$3"
