#!/bin/sh
# together_test.sh EXAMPLES FARMESH MODEL: two peers of 03_serve_layers, and who asks them: 07_over_peers,
# 09_hidden_states, and 08_http_client through a coordinator. And a talk with 02_chat.
set -eu
examples=$1 farmesh=$2 model=$3
work=$(mktemp -d)
started=
trap 'kill $started 2>/dev/null || :; rm -rf "$work"' EXIT
fail() { echo "failed: $*" >&2; exit 1; }
. "$(dirname "$0")/../tests/support/serve.sh"

serve "$work/first" "$examples/03_serve_layers" "$model" 0 3 127.0.0.1:0
first=$address leaver=$!
serve "$work/second" "$examples/03_serve_layers" "$model" 3 6 127.0.0.1:0
second=$address

"$examples/07_over_peers" "$model" "Once upon a time" "$first" "$second" >"$work/told"
grep -q "layers 3:6 at $second" "$work/told" || fail "07_over_peers told $(cat "$work/told")"
"$examples/09_hidden_states" "$model" "Once upon a time" "$first" "$second" >"$work/over_peers"
"$examples/09_hidden_states" "$model" "Once upon a time" >"$work/here"
grep -q "layers 3:6 at $second" "$work/over_peers" || fail "09_hidden_states told $(cat "$work/over_peers")"
grep -v "^layers" "$work/over_peers" >"$work/rows"
grep -v "^layers" "$work/here" | cmp - "$work/rows" || fail "hidden states over peers are others"

export XDG_DATA_HOME="$work" LOG_LEVEL=warning NO_PROXY=127.0.0.1,localhost
serve "$work/coordinator" "$farmesh" coordinator --model "$model" --port 0 --no-ledger --public-budget 100 \
  --threads 1 --peer "$first" --peer "$second"
"$examples/08_http_client" "$address" "Tell me a story." >"$work/answer"
grep -q "tokens for" "$work/answer" || fail "08_http_client told $(cat "$work/answer")"

printf 'Hello\nTell me a story.\n' | "$examples/02_chat" "$model" >"$work/chat"
[ "$(grep -c '^> ' "$work/chat")" -eq 3 ] || fail "02_chat told $(cat "$work/chat")"

kill -TERM "$leaver"
wait "$leaver" || fail "03_serve_layers ended with $?"
grep -q "rows in" "$work/first" || fail "03_serve_layers told $(cat "$work/first")"
