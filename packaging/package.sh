#!/bin/sh
# package.sh SOURCE BUILD OUT PYTHON: from a build folder, a Debian package of the program and the library,
# wheels of farlabs and an npm tarball of @farlabs/sdk, all into OUT, which is emptied first.
#
# Wheel and tarball hold libfarmesh.so and what it links but the platform's own libraries, so that they
# run wherever glibc is not older than here. The engine, which needs libtorch, is in the Debian package
# and in a wheel of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$1 build=$2 out=$3 python=$4
version=$(sed -n 's/^project(farmesh VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
stage=$out/stage

rm -rf "$out"
mkdir -p "$stage/lib"
out=$(cd "$out" && pwd) stage=$out/stage

echo "package: Debian" >&2
(cd "$build" && cpack -G DEB -B "$stage/deb" >"$stage/cpack.log") || { cat "$stage/cpack.log" >&2; exit 1; }
mv "$stage"/deb/*.deb "$out/"

echo "package: the library and what it links" >&2
cmake -D bin="$build/bin" -D out="$stage/lib" -P "$here/bundle.cmake"
# Whose they are, beside them.
mkdir "$stage/lib/licences"
for library in "$stage"/lib/*.so*; do
  echo "*/$(basename "$library")"
done | xargs dpkg -S 2>/dev/null | cut -d: -f1 | sort -u | while read -r package; do
  cp -L "/usr/share/doc/$package/copyright" "$stage/lib/licences/$package"
done

machine=$(ls "$build/node/native" | grep linux-)
echo "package: npm" >&2
mkdir -p "$stage/npm/native/$machine"
cp -rL "$build/node/esm" "$build/node/cjs" "$build/node/package.json" "$stage/npm/"
cp "$build/node/native/binding.cjs" "$stage/npm/native/"
cp "$build/node/native/$machine/farlabs.node" "$stage/npm/native/$machine/"
strip "$stage/npm/native/$machine/farlabs.node"
patchelf --set-rpath '$ORIGIN/lib' "$stage/npm/native/$machine/farlabs.node"
cp -r "$stage/lib" "$stage/npm/native/$machine/lib"
cp "$source/LICENSE" "$stage/npm/"
cp "$source/docs/sdk-typescript.md" "$stage/npm/README.md"
(cd "$stage/npm" && npm pack --silent --pack-destination "$out" >/dev/null)

echo "package: wheels" >&2
mkdir -p "$stage/wheel/farlabs" "$stage/engine/farlabs_engine"
cp -rL "$build/python/farlabs/." "$stage/wheel/farlabs/"
rm -rf "$stage/wheel/farlabs/__pycache__"
strip "$stage"/wheel/farlabs/_farlabs.*.so
patchelf --set-rpath '$ORIGIN/lib' "$stage"/wheel/farlabs/_farlabs.*.so
cp -r "$stage/lib" "$stage/wheel/farlabs/lib"
"$python" "$here/make_wheel.py" --name farlabs --version "$version" --folder "$stage/wheel" \
  --out "$out" --about "$source/docs/sdk-python.md" --licence "$source/LICENSE" \
  --extra "engine: farlabs-engine==$version"
if [ -e "$build/bin/libfarmesh_torch.so" ]; then
  cp "$here/engine.py" "$stage/engine/farlabs_engine/__init__.py"
  cp "$build/bin/libfarmesh_torch.so" "$stage/engine/farlabs_engine/"
  strip "$stage/engine/farlabs_engine/libfarmesh_torch.so"
  patchelf --remove-rpath "$stage/engine/farlabs_engine/libfarmesh_torch.so"
  "$python" "$here/make_wheel.py" --name farlabs-engine --version "$version" --any-python \
    --folder "$stage/engine" --out "$out" --licence "$source/LICENSE"
fi
rm -rf "$stage"
ls -sh1 "$out" >&2
