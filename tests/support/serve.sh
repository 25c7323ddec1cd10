# serve FILE COMMAND…: begins a program that says "listening on ADDRESS" first, its output into FILE; leaves the
# address in $address, and adds its process to $started. To be sourced.
serve() {
  said=$1
  shift
  : >"$said"
  "$@" >"$said" &
  started="$started $!"
  until grep -q '^listening on' "$said"; do
    kill -0 $! || { echo "failed: $* did not begin to listen" >&2; exit 1; }
    sleep 0.1
  done
  read -r _ _ address _ <"$said"
}
