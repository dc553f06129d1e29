#!/usr/bin/env bash
# Formats and lints of every language in the tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deny_version=0.20.2

cargo fmt --all --check
# As users get it, and as tests need it; with the tests' profile, whose C libraries and macros are compiled once then.
for features in '' failpoints; do
  cargo clippy --release --locked --workspace --all-targets --features "$features" -- -D warnings
done
deny=${PGEXPORT_STATE:-.state}/tools/bin/cargo-deny
if [[ ! -x $deny ]]; then
  echo "lint: building cargo-deny $deny_version (about a minute, once)"
  cargo install --debug --quiet --locked cargo-deny --version "$deny_version" --root "${PGEXPORT_STATE:-.state}/tools" --no-default-features
fi
"$deny" --locked check --hide-inclusion-graph bans licenses sources

unformatted=$(cd e2e/cluster && gofmt -l .)
[[ -z $unformatted ]] || { echo "gofmt: $unformatted" >&2; exit 1; }
# As build.sh builds it, so that Kubernetes is compiled once for all.
(cd e2e/cluster && CGO_ENABLED=0 go vet -trimpath -buildvcs=false ./...)

for script in $(git ls-files '*.sh' .ci/run); do bash -n "$script"; done
