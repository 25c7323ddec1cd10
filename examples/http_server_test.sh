#!/bin/sh
# http_server_test.sh EXAMPLE MODEL: two requests, one of them none, to 05_http_server.
set -eu
work=$(mktemp -d)
mkfifo "$work/line"
"$1" "$2" 0 >"$work/line" &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
read -r _ _ url <"$work/line"
# Debian's own Python speaks HTTP; curl need not be there.
python3 - "$url" <<'PY'
import sys
import urllib.error
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
text = opener.open(sys.argv[1], b"Once upon a time", 60).read().decode()
assert len(text) > 20, text
try:
    opener.open(sys.argv[1], None, 60)
except urllib.error.HTTPError as error:
    assert error.code == 400
else:
    raise AssertionError("an answer to nothing")
PY
