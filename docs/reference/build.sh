#!/bin/sh
# build.sh SOURCE BUILD PYTHON NODE_MODULES OUT: the API references, as HTML: OUT/cpp by Doxygen from the
# headers, OUT/python by pdoc from the package, OUT/typescript by typedoc from the sources. Fails on what
# is wrong or undocumented in them. Exits with 77, which ctest shows as skipped, where a tool is missing.
set -eu
source=$1 build=$2 python=$3 modules=$4 out=$5

command -v doxygen >/dev/null || { echo "skipped: there is no doxygen"; exit 77; }
"$python" -c 'import pdoc' 2>/dev/null || { echo "skipped: there is no pdoc; ./run installs it from PyPI"; exit 77; }
[ -x "$modules/.bin/typedoc" ] || { echo "skipped: there is no typedoc; ./run installs it from npm's registry"; exit 77; }
ls "$build"/python/farlabs/_farlabs.*.so >/dev/null 2>&1 || { echo "skipped: the Python package was not built"; exit 77; }

rm -rf "$out"
mkdir -p "$out"
cd "$source"
FARMESH_DOCS=$out doxygen docs/reference/Doxyfile
PYTHONPATH=$build/python PYTHONDONTWRITEBYTECODE=1 "$python" docs/reference/python.py "$out/python"
"$modules/.bin/typedoc" --options docs/reference/typedoc.json --tsconfig bindings/node/tsconfig.json \
  --out "$out/typescript"
echo "API reference: $out/cpp/index.html, $out/python/index.html, $out/typescript/index.html"
