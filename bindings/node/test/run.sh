#!/bin/sh
# run.sh PROGRAM MODEL PACKAGE TSC: the package's tests against PROGRAM. Exits with 77, which ctest shows as
# skipped, where the package could not be built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
package=$3

if [ ! -e "$package/esm/index.js" ]; then
  echo "skipped: the TypeScript package was not built; ./run test, where npm's registry can be reached, builds it"
  exit 77
fi
# Inside the package its name is known.
mkdir -p "$package/test"
cp "$here"/*.mjs "$here"/*.mts "$here"/*.cts "$package/test/"
export FARMESH_PROGRAM="$1" FARMESH_MODEL="$2" FARMESH_SOURCE="$here/../../.." FARMESH_TSC="$4"
export NO_PROXY=127.0.0.1,localhost
exec node --expose-gc --test "$package/test/"
