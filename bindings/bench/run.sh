#!/bin/sh
# run.sh BUILD PYTHON [PIECES]: what each binding adds to the C++ call for every piece of text, and how
# long an import takes. Exits with 1 where Python's or Node's part is above its bound, with 77 where the
# bindings could not be built.
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

cpp=$(least "$build/bin/bench_sdk_reader" "$url")
py=$(least "$python" "$here/reader.py" "$url")
js=$(least node "$here/reader.mjs" "$build/node/esm/index.js" "$url")
web=$(least node "$here/reader.mjs" "$build/node/esm/web.js" "$url")
model=$here/../../models/demo
cpp_token=$(least "$build/bin/bench_sdk_reader" "$url" "$model")
py_token=$(least "$python" "$here/reader.py" "$url" "$model")
js_token=$(least node "$here/reader.mjs" "$build/node/esm/index.js" "$url" "$model")
py_import=$(least import_ms) js_import=$(least require_ms)
echo "ns of the reading thread for each piece, over $pieces: C++ $cpp, Python $py, Node $js, fetch in Node $web"
echo "overhead: Python $((py - cpp)) ns, Node $((js - cpp)) ns (aim: 5000 each)"
echo "ns for each token of a Session: C++ $cpp_token, Python $py_token, Node $js_token"
echo "import: Python $py_import ms, Node $js_import ms (aim: 150)"
[ $((py - cpp)) -lt 5000 ] && [ $((js - cpp)) -lt 5000 ] && [ "$py_import" -lt 150 ] && [ "$js_import" -lt 150 ]
