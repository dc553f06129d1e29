#!/usr/bin/env bash
# Integration and end-to-end tests, in a lab that is up. Those of the cluster mostly wait, and those of the servers mostly
# compute: they run side by side. Arguments are names of test binaries: only those run.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
PGEXPORT_STATE=$(realpath -m "${PGEXPORT_STATE:-.state}")
export PGEXPORT_STATE
logs=$PGEXPORT_STATE/tests
mkdir -p "$logs"

e2e/prerequisites.sh tests
wanted=(--test '*')
if (($#)); then
  wanted=()
  for name in "$@"; do wanted+=(--test "$name"); done
fi
# Of each binary, the folder of its package and its path. Compiled first: what is waited for later is the tests alone.
cargo test --release --locked --workspace --features failpoints "${wanted[@]}" --no-run --message-format=json-render-diagnostics |
  jq -r 'select(.reason == "compiler-artifact" and .profile.test and .executable) | "\(.manifest_path | rtrimstr("/Cargo.toml")) \(.executable)"' |
  sort >"$logs/binaries"

# Runs the binaries of standard input, one after the other; all of them, whatever becomes of the first.
run() {
  local folder binary failed=()
  while read -r folder binary; do
    echo "--- $(basename "$folder"): $(basename "$binary") (after $SECONDS s)"
    (cd "$folder" && RUST_BACKTRACE=1 "$binary" </dev/null) || failed+=("$(basename "$binary")")
  done
  ((!${#failed[@]})) || { echo "FAILED: ${failed[*]}"; return 1; }
}

{ grep -v "^$PWD/e2e " "$logs/binaries" || true; } | run >"$logs/servers.log" 2>&1 &
servers=$!
trap 'kill $servers 2>/dev/null || true' EXIT
failed=
{ grep "^$PWD/e2e " "$logs/binaries" || true; } | run || failed=1
echo "--- the servers' tests, meanwhile"
wait $servers || failed=1
cat "$logs/servers.log"
[[ -z $failed ]]
