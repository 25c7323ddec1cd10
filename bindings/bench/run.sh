#!/bin/sh
# run.sh BUILD PYTHON [PIECES]: what each binding adds to the C++ call for every piece of text and every
# token, how late a piece is that was waited for, and how long an import takes. Exits with 1 where Python's or
# Node's part is above its bound, with 77 where the bindings could not be built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 python=$2 pieces=${3:-20000}
if ! ls "$build"/python/farlabs/_farlabs.*.so "$build/node/esm/index.js" >/dev/null 2>&1; then
  echo "skipped: the Python and npm packages were not built; ./run test, where PyPI and npm's registry can be reached, builds them"
  exit 77
fi
export PYTHONPATH="$build/python" PYTHONDONTWRITEBYTECODE=1 NO_PROXY=127.0.0.1

work=$(mktemp -d)
mkfifo "$work/line"
"$python" "$here/server.py" "$pieces" >"$work/line" &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
read -r url <"$work/line"

least() {  # least COMMAND…: the smallest of five answers, which others disturbed least
  for _ in 1 2 3 4 5; do "$@"; done | sort -n | head -n 1
}
import_ms() {  # beyond the interpreter's own start
  "$python" -c 'import time; began = time.perf_counter(); import farlabs; print(int((time.perf_counter() - began) * 1e3))'
}
require_ms() {
  node -e 'const began = performance.now(); require(process.argv[1]); console.log(Math.round(performance.now() - began))' "$build/node/cjs/index.js"
}

cpp() { "$build/bin/bench_sdk_reader" "$@"; }
py() { "$python" "$here/reader.py" "$@"; }
js() { node "$here/reader.mjs" "$build/node/esm/index.js" "$@"; }
web() { node "$here/reader.mjs" "$build/node/esm/web.js" "$@"; }
model=$here/../../models/demo

cpp_text=$(least cpp text "$url") cpp_token=$(least cpp tokens "$model") cpp_late=$(least cpp late "$url")
py_text=$(least py text "$url") py_token=$(least py tokens "$model") py_late=$(least py late "$url")
js_text=$(least js text "$url") js_token=$(least js tokens "$model") js_late=$(least js late "$url")
py_import=$(least import_ms) js_import=$(least require_ms)

echo "ns that the reading thread computes for each piece of text, over $pieces that are there already:" \
  "C++ $cpp_text, Python $py_text, Node $js_text, fetch in Node $(least web text "$url")"
echo "  for each token of a Session: C++ $cpp_token, Python $py_token, Node $js_token"
echo "ns from the server's send to the reader who waits for each piece, the median of 1000:" \
  "C++ $cpp_late, Python $py_late, async for $(least py async "$url"), Node $js_late," \
  "fetch in Node $(least web late "$url")"
echo "overhead: Python $((py_text - cpp_text)) and $((py_token - cpp_token)) ns," \
  "Node $((js_text - cpp_text)) and $((js_token - cpp_token)) ns (aim: 5000 each)"
echo "import: Python $py_import ms, Node $js_import ms (aim: 150)"
for overhead in $((py_text - cpp_text)) $((py_token - cpp_token)) $((js_text - cpp_text)) \
  $((js_token - cpp_token)); do
  [ "$overhead" -lt 5000 ] || exit 1
done
[ "$py_import" -lt 150 ] && [ "$js_import" -lt 150 ]
