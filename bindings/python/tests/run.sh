#!/bin/sh
# run.sh PROGRAM MODEL ENVIRONMENT PACKAGES [PYTEST ARGUMENTS…]: the package's tests against PROGRAM.
# Exits with 77, which ctest shows as skipped, where the package could not be built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1 model=$2 environment=$3 packages=$4
shift 4

if ! ls "$packages"/farlabs/_farlabs.*.so >/dev/null 2>&1; then
  echo "skipped: the Python package was not built; ./run test, where PyPI can be reached, builds it"
  exit 77
fi
export FARMESH_PROGRAM="$program" FARMESH_MODEL="$model" PYTHONPATH="$packages" PYTHONDONTWRITEBYTECODE=1
export NO_PROXY=127.0.0.1,localhost
exec "$environment/bin/python" -m pytest -q -p no:cacheprovider --rootdir "$here" "$here" "$@"
