#!/bin/sh
# run.sh PROGRAM FOLDER MODEL: installs playwright-core into FOLDER, once for each lockfile, and opens
# the page of a coordinator in Debian's chromium. Exits with 77, which ctest shows as skipped, where
# that cannot be done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
folder=$2

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: the page needs node and npm"
  exit 77
fi
if ! command -v chromium >/dev/null; then
  echo "skipped: there is no chromium"
  exit 77
fi
mkdir -p "$folder"
if ! cmp -s "$here/package-lock.json" "$folder/installed-lock.json"; then
  cp "$here/package.json" "$here/package-lock.json" "$folder/"
  if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent; then
    echo "skipped: npm could not install playwright-core"
    exit 77
  fi
  cp "$here/package-lock.json" "$folder/installed-lock.json"
fi
# A module finds its packages beside itself.
cp "$here"/*.mjs "$folder/"
exec node "$folder/page.mjs" "$program" "$3"
