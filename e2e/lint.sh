#!/usr/bin/env bash
# Formats and lints of every language in the tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; fi

unformatted=$(cd e2e/cluster && gofmt -l .)
[[ -z $unformatted ]] || { echo "gofmt: $unformatted" >&2; exit 1; }
(cd e2e/cluster && go vet ./...)

for script in $(git ls-files '*.sh' .ci/run); do bash -n "$script"; done
