#!/usr/bin/env bash
# Builds the cluster tool, Kubernetes included, into STATE/bin/cluster, if its
# sources changed. STATE: $PGEXPORT_STATE, or .state in the checkout.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
state=${PGEXPORT_STATE:-../../.state}
mkdir -p "$state/bin"
binary=$state/bin/cluster
stamp=$binary.sources

command -v go >/dev/null || { echo "build: Go is missing (see the go line of go.mod for the version)" >&2; exit 1; }

# What the binary depends on: the sources, the versions, this script, Go.
sources() {
  go version
  find . -type f \( -name '*.go' -o -name 'go.*' -o -name build.sh \) ! -name '*_test.go' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum
}
sum=$(sources | sha256sum | cut -d' ' -f1)
if [[ -x $binary && -f $stamp && $(<"$stamp") == "$sum" ]]; then
  echo "cluster: up to date"
  exit 0
fi

# Kubernetes' version, as in go.mod: v1.MINOR.PATCH
version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
minor=${version#v1.}
minor=${minor%%.*}
package=k8s.io/component-base/version
echo "cluster: building Kubernetes $version into one binary" \
  "(about 6 minutes on 2 cores the first time, 15 seconds after that)"
begin=$SECONDS
CGO_ENABLED=0 go build -trimpath -buildvcs=false \
  -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor" \
  -o "$binary.new" .
mv "$binary.new" "$binary"
ln -sfn cluster "$state/bin/kubectl"
echo "$sum" >"$stamp"
echo "cluster: built after $((SECONDS - begin)) s"
