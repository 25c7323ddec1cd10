#!/bin/sh
# cpp_page_test.sh SOURCE BUILD COMPILER: every program of docs/sdk-cpp.md, as it stands there, built and run.
set -eu
source=$1 build=$2 compiler=$3
work=$(mktemp -d)
started=
trap 'kill $started 2>/dev/null || :; rm -rf "$work"' EXIT
fail() { echo "failed: $*" >&2; exit 1; }
. "$source/tests/support/serve.sh"
cd "$work"
ln -s "$source/models" models
export XDG_DATA_HOME="$work" LOG_LEVEL=warning NO_PROXY=127.0.0.1,localhost

serve node.out "$build/bin/farmesh" node --model models/demo --layers 0:6 --listen 127.0.0.1:0 \
  --threads 1 --ephemeral
peer=$address
serve coordinator.out "$build/bin/farmesh" coordinator --model models/demo --port 0 --public-budget 100 \
  --no-ledger --threads 1 --peer "$peer"
export FARLABS_BASE_URL="$address"

awk '/^```cpp$/ { inside = 1; file = sprintf("snippet_%d.cpp", ++count); next }
     /^```$/ { inside = 0 }
     inside { print > file }' "$source/docs/sdk-cpp.md"
[ "$(ls snippet_*.cpp | wc -l)" -ge 5 ] || fail "the page has lost its programs"
for snippet in snippet_*.cpp; do
  # The page's address is one that documents use.
  sed -i "s/203\.0\.113\.7:31330/$peer/" "$snippet"
  "$compiler" -std=c++20 -Wall -Wextra -Wno-missing-field-initializers -Werror -I "$source/include" \
    "$snippet" -o program -L "$build/bin" -lfarmesh -Wl,-rpath,"$build/bin" || fail "$(cat "$snippet")"
  ./program >said || fail "$(cat "$snippet") ended with $?"
done
