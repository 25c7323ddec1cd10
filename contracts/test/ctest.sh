#!/bin/sh
# Installs what the contracts' suite needs, once for each lockfile, and runs it. Exits with 77, which
# ctest shows as skipped, where that cannot be done. `ctest.sh install` only installs.
set -eu
cd "$(dirname "$0")/.."

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: the contracts are built and tested with node and npm"
  exit 77
fi
if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 18 || (+a === 18 && +b >= 19) ? 0 : 1)'; then
  echo "skipped: the contracts need node 18.19 or newer; this is $(node --version)"
  exit 77
fi
if ! cmp -s package-lock.json node_modules/installed-lock.json; then
  if ! npm ci --ignore-scripts --no-audit --no-fund --silent; then
    echo "skipped: npm could not install the packages of contracts/package-lock.json"
    exit 77
  fi
  cp package-lock.json node_modules/installed-lock.json
fi
[ "${1:-}" = install ] || exec npm test --silent -- "$@"
