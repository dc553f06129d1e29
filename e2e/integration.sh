#!/usr/bin/env bash
# Integration and end-to-end tests, in a lab that is up. Those of the cluster mostly wait, and those of the servers mostly
# compute: they run side by side. Those of the engine that read from PostgreSQL then run on each of the other versions too, with
# servers of their own.
#
#   integration.sh              all tests
#   integration.sh NAME...      the test binaries of these names, on the lab's version
#   POSTGRES_VERSIONS="14 18"   the other versions; none if it is empty
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
PGEXPORT_STATE=$(realpath -m "${PGEXPORT_STATE:-.state}")
export PGEXPORT_STATE
logs=$PGEXPORT_STATE/tests
mkdir -p "$logs"

others=
(($#)) || others=$(grep -o '^[0-9]*' e2e/peers/postgres-releases.txt)
mapfile -t versions < <(xargs -rn 1 <<<"${POSTGRES_VERSIONS-$others}")
# The engine's test binaries that run on them, and what of these takes long and is the same on each.
versioned='^(source|export|aurora|standby)-'
same=(--skip login:: --skip instance:: --skip copying::a_row_of_many_megabytes --skip copying::a_slow_consumer --skip compression:: --skip rate::
  --skip a_row_of_100_megabytes_passes --skip equality::)

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

# Runs the binaries of standard input with these arguments, one after the other; all of them, whatever becomes of the first.
run() {
  local folder binary broken=()
  while read -r folder binary; do
    echo "--- $(basename "$folder"): $(basename "$binary") (after $SECONDS s)"
    # Not waited for by the shell itself, which would not obey a signal meanwhile.
    (cd "$folder" && RUST_BACKTRACE=1 exec "$binary" "$@" </dev/null) &
    wait $! || broken+=("$(basename "$binary")")
  done
  ((!${#broken[@]})) || { echo "FAILED: ${broken[*]}"; return 1; }
}

binaries() { grep "$@" "^$PWD/e2e " "$logs/binaries" || true; }
versioned_binaries() {
  local folder binary
  while read -r folder binary; do
    [[ $folder != "$PWD/operator/engine" || ! $(basename "$binary") =~ $versioned ]] || echo "$folder $binary"
  done <"$logs/binaries"
}

# Servers of a version, beside those of the lab.
peers() { "${CARGO_TARGET_DIR:-target}/release/peers" --state "$PGEXPORT_STATE/peers-$1" "${@:2}"; }

# Runs tests on servers of this version.
try() {
  local folder=$PGEXPORT_STATE/peers-$1 failed=
  echo "--- PostgreSQL $1 (after $SECONDS s)"
  # What a run that was killed has left.
  peers "$1" down --purge
  up=$1
  peers "$1" up --postgres-version "$1" || failed=1
  [[ -n $failed ]] || PGEXPORT_PEERS=$folder/peers.json run "${same[@]}" < <(versioned_binaries) || failed=1
  if [[ -n $failed ]]; then
    echo "FAILED on PostgreSQL $1; the ends of its servers' logs:"
    tail -n 100 "$folder"/*.log || true
  fi
  peers "$1" down --purge || failed=1
  up=
  [[ -z $failed ]]
}

# Ends what runs, and its servers.
clean() {
  local running
  running=$(jobs -p)
  # shellcheck disable=SC2086 # a number each
  [[ -z $running ]] || kill $running 2>/dev/null || true
  wait
  [[ -z ${up:-} ]] || peers "$up" down --purge
}

# The servers' tests, on the lab's version and on the others.
serve() {
  trap 'exit 1' TERM
  trap clean EXIT
  local failed='' version
  run < <(binaries -v) || failed=1
  for version in "${versions[@]}"; do try "$version" || failed=1; done
  [[ -z $failed ]]
}

trap clean EXIT
trap 'exit 1' INT TERM
serve >"$logs/servers.log" 2>&1 &
servers=$!
failed=
run < <(binaries) || failed=1
echo "--- the servers' tests, meanwhile"
wait $servers || failed=1
cat "$logs/servers.log"
[[ -z $failed ]]
