# Sourced by the run.sh of tests that need packages from npm, with `here` (the test's folder), and
# `folder` (where they go) set.
#
# npm_packages WHAT: installs what the lockfile in `here` names into `folder`, once for each lockfile,
# and lays the modules of `here`, if there are any, beside it. Exits with 77, which ctest shows as
# skipped, where that cannot be done.

npm_packages() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "skipped: $1 needs node and npm"
    exit 77
  fi
  mkdir -p "$folder"
  if ! cmp -s "$here/package-lock.json" "$folder/installed-lock.json"; then
    cp "$here/package.json" "$here/package-lock.json" "$folder/"
    if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent; then
      echo "skipped: npm could not install what $1 needs"
      exit 77
    fi
    cp "$here/package-lock.json" "$folder/installed-lock.json"
  fi
  # A module finds its packages beside itself.
  for module in "$here"/*.mjs; do
    [ ! -e "$module" ] || cp "$module" "$folder/"
  done
}
