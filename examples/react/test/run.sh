#!/bin/sh
# run.sh PROGRAM MODEL SDK FOLDER: builds the page with the package in SDK, in FOLDER, and opens it in
# Debian's chromium. Exits with 77, which ctest shows as skipped, where that cannot be done.
set -eu
test=$(cd "$(dirname "$0")" && pwd)
here=$(dirname "$test")
program=$1 model=$2 sdk=$3 folder=$4
. "$here/../../tests/support/npm_packages.sh"

if ! command -v chromium >/dev/null; then
  echo "skipped: there is no chromium"
  exit 77
fi
if [ ! -e "$sdk/esm/web.js" ]; then
  echo "skipped: the npm package was not built"
  exit 77
fi
npm_packages "the React page"
mkdir -p "$folder/node_modules/@farlabs"
ln -sfn "$sdk" "$folder/node_modules/@farlabs/sdk"
rm -rf "$folder/src"
cp -r "$here/src" "$here/index.html" "$here/vite.config.js" "$test/page.mjs" "$folder/"
cd "$folder"
node_modules/.bin/vite build --logLevel warn
exec node page.mjs "$program" "$model"
