#!/bin/sh
# run.sh PROGRAM MODEL FOLDER: compiles the package in FOLDER and runs its tests against PROGRAM.
# Exits with 77, which ctest shows as skipped, where that cannot be done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../.." && pwd)
package=$here/..
folder=$3

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: the package needs node and npm"
  exit 77
fi
mkdir -p "$folder"
cp "$package/package.json" "$package/tsconfig.json" "$folder/"
if ! cmp -s "$package/package-lock.json" "$folder/installed-lock.json"; then
  cp "$package/package-lock.json" "$folder/"
  if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent; then
    echo "skipped: npm could not install typescript"
    exit 77
  fi
  cp "$package/package-lock.json" "$folder/installed-lock.json"
fi
rm -rf "$folder/src" "$folder/test"
cp -r "$package/src" "$here" "$folder/"
cd "$folder"
node_modules/.bin/tsc
FARMESH_PROGRAM=$1 FARMESH_MODEL=$2 FARMESH_SOURCE=$source exec node --test test/
