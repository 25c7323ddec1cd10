#!/bin/sh
# test.sh SOURCE BUILD WORK PYTHON COMPILER: makes the packages in WORK, installs each into an empty
# environment, and uses it there. Exits with 77, which ctest shows as skipped, where the bindings could
# not be built or a tool is missing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$1 build=$2 work=$3 python=$4 compiler=$5

for tool in patchelf strip cpack dpkg dpkg-shlibdeps node npm; do
  command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
if ! ls "$build"/python/farlabs/_farlabs.*.so "$build/node/esm/index.js" >/dev/null 2>&1; then
  echo "skipped: the Python and npm packages were not built; ./run test, where PyPI and npm's registry can be reached, builds them"
  exit 77
fi
fail() { echo "failed: $*" >&2; exit 1; }
rm -rf "$work"
mkdir -p "$work"
unset FARMESH_TORCH_LIBRARY LD_LIBRARY_PATH PYTHONPATH  # nothing but what is installed
export NO_PROXY=127.0.0.1 HOME="$work" PYTHONDONTWRITEBYTECODE=1
sh "$here/package.sh" "$source" "$build" "$work/packages" "$python"

# --- Debian: what apt would install beside it is what the build links, so it is here already. Unpacked
# into a root of its own; what is left of an installation is ldconfig.
deb=$(ls "$work"/packages/*.deb)
dpkg-deb -f "$deb" Depends | grep -q libtorch || fail "the package does not depend on libtorch"
root=$work/root
mkdir -p "$root"
if [ "$(id -u)" -eq 0 ]; then
  mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
  : > "$root/var/lib/dpkg/status"
  dpkg --root="$root" --log=/dev/null --force-depends --unpack "$deb" >/dev/null
  dpkg --root="$root" --verify farmesh || fail "not unpacked as it was packed"
else
  dpkg-deb --extract "$deb" "$root"
fi
farmesh=$root/usr/bin/farmesh model=$root/usr/share/farmesh/models/demo
"$farmesh" generate --model "$model" --local --max-tokens 8 --prompt "Once upon a time" >/dev/null ||
  fail "the installed program does not generate"
cmake -S "$source/examples/outside" -B "$work/outside" -G Ninja -D CMAKE_PREFIX_PATH="$root/usr" \
  -D CMAKE_CXX_COMPILER="$compiler" >/dev/null
cmake --build "$work/outside" >/dev/null || fail "a program does not build against the package"
"$work/outside/outside" "$model" "Hello" >/dev/null || fail "a program of the library does not run"

# --- a coordinator, by that package, for the other two
mkfifo "$work/line"
XDG_DATA_HOME="$work" LOG_LEVEL=warning "$farmesh" coordinator --model "$model" --port 0 \
  --public-budget 100 --no-ledger --fallback-local >"$work/line" &
coordinator=$!
trap 'kill $coordinator' EXIT
read -r _ _ url _ <"$work/line"
export FARLABS_BASE_URL="$url"

# --- Python: an environment with nothing else
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-index "$work"/packages/farlabs-0*.whl
cd "$work"
"$work/venv/bin/python" - "$model" <<'PY' || fail "the wheel"
import importlib.metadata
import sys

from farlabs import FarMesh, FarMeshError

about = importlib.metadata.metadata("farlabs")
assert about["Requires-Python"] == ">=3.10", about
versions = [line for line in about.get_all("Classifier") if " :: Python :: 3." in line]
assert [line[-4:] for line in versions] == ["3.10", "3.11", "3.12", "3.13"], versions
mesh = FarMesh()
text = mesh.generate("Once upon a time", max_tokens=8, temperature=0).text()
assert text, text
for line in open("/proc/self/maps"):
    assert "libtorch.so" not in line, "libtorch is loaded"
    for library in "libfarmesh.so", "libtorrent-rasterbar", "libpq":
        assert library not in line or sys.prefix in line, line
try:
    FarMesh(local=True, model=sys.argv[1])
except FarMeshError as error:
    assert error.code == "engine_unavailable" and "libfarmesh_torch" in error.message, error
else:
    raise AssertionError("a model was computed without an engine")
PY
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-index --find-links "$work/packages" \
  "farlabs[engine]"
"$work/venv/bin/python" - "$model" <<'PY' || fail "the wheel with its engine"
import sys

from farlabs import FarMesh

alone = FarMesh(local=True, model=sys.argv[1], threads=1)
there = FarMesh()
ask = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
assert alone.generate(**ask).text() == there.generate(**ask).text()
PY

# --- npm: an empty project
mkdir "$work/project"
cd "$work/project"
npm init --yes >/dev/null 2>&1
npm install --offline --no-audit --no-fund --silent "$work"/packages/*.tgz
cat >esm.mjs <<'JS'
import { readFileSync } from "node:fs";
import { FarMesh, isNative } from "@farlabs/sdk";
import * as web from "@farlabs/sdk/web";
const ask = ["Once upon a time", { maxTokens: 8, temperature: 0 }];
const text = await (await new FarMesh().generate(...ask)).text();
const same = text && text === await (await new web.FarMesh().generate(...ask)).text();
const maps = readFileSync("/proc/self/maps", "utf8").split("\n");
const own = maps.filter((line) => /libfarmesh.so|libtorrent-rasterbar|libpq/.test(line));
const inside = own.length > 0 && own.every((line) => line.includes("node_modules/@farlabs/sdk"));
const without = await new FarMesh({ local: true, model: process.argv[2] }).models()
  .catch((error) => error.code);
console.log(isNative, Boolean(same), inside, without);
JS
[ "$(node esm.mjs "$model")" = "true true true engine_unavailable" ] || fail "the tarball"
node -e 'require("@farlabs/sdk").FarMesh; require("@farlabs/sdk/web").FarMesh' || fail "CommonJS"
echo "packages: all three are installed and used"
