#!/usr/bin/env bash
# All tests, from formats to the cluster. What it starts it stops, unless the lab was up before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# One build for all: with failpoints, places at which tests hold pgexport or let it die.
export PGEXPORT_STATE CARGO_TARGET_DIR=$PWD/target FEATURES=failpoints
PGEXPORT_STATE=$(realpath -m "${PGEXPORT_STATE:-.state}")
bin=$PGEXPORT_STATE/bin

step() { printf '\n=== %s (after %d s)\n' "$*" "$SECONDS"; }

step "prerequisites"
e2e/prerequisites.sh

step "formats and lints"
e2e/lint.sh

step "generated files"
make --no-print-directory generate-check

step "unit tests"
cargo test --release --locked --workspace --features $FEATURES --lib --bins
(cd e2e/cluster && CGO_ENABLED=0 go test -trimpath -buildvcs=false ./...)

step "sql"
sql/test.sh

step "chart"
e2e/chart.sh

step "lab"
was_up=
[[ ! -x $bin/cluster ]] || ! "$bin/cluster" status >/dev/null 2>&1 || was_up=1
[[ -n $was_up ]] || trap 'e2e/lab.sh down' EXIT
e2e/lab.sh up
while IFS= read -r line; do export "${line?}"; done < <(e2e/lab.sh env)

step "integration and end-to-end tests"
e2e/integration.sh

step "all tests passed"
