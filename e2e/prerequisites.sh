#!/usr/bin/env bash
# Installs what is missing of the tools that the lab, the tests and the quickstart need, and says what it does.
#
#   prerequisites.sh          everything
#   prerequisites.sh peers    what PostgreSQL and the S3 server need, without a cluster
#   prerequisites.sh tests    what tests need besides: other versions of PostgreSQL, readers of what is delivered
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=$(realpath -m "${PGEXPORT_STATE:-.state}")
helm_version=v3.22.0

say() { echo "prerequisites: $*"; }
fail() { echo "prerequisites: $*" >&2; exit 1; }

# Debian packages: those of the tools' own lists (a name a line, the reason behind or above it), and what is used here.
# With `peers` as argument, without those of the cluster.
packages() {
  local lists=(e2e/peers/packages.txt)
  case ${1:-} in
    peers) ;;
    tests) lists=(sql/packages.txt) && echo python3-venv ;;
    *) lists+=(e2e/cluster/packages.txt) ;;
  esac
  sed 's/#.*//' "${lists[@]}" | awk 'NF { print $1 }'
  printf '%s\n' gcc libc6-dev make python3 curl jq git
}

# Whether a package, or another one's program of its name (such as Docker's containerd), is there.
is_there() {
  dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' || command -v "$1" >/dev/null
}

install_packages() {
  local missing=() package
  while read -r package; do
    is_there "$package" || missing+=("$package")
  done < <(packages "$@" | sort -u)
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || fail "as root: apt-get install ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  # The packages' own servers are not wanted: neither a PostgreSQL cluster of Debian's nor services that start by themselves.
  mkdir -p /etc/postgresql-common
  [[ -e /etc/postgresql-common/createcluster.conf ]] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    # shellcheck disable=SC2064 # the path as it is now
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  apt-get update -qq
  # Nothing that is there is removed for it.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-remove --no-install-recommends "${missing[@]}" >"$state/apt.log" 2>&1 ||
    { tail -n 20 "$state/apt.log" >&2; fail "apt-get install failed; the whole log is in $state/apt.log"; }
}

check_go() {
  command -v go >/dev/null || fail "Go is missing: install Go $(awk '$1 == "go" { print $2 }' e2e/cluster/go.mod) or later (go.dev/dl)"
}

check_rust() {
  command -v cargo >/dev/null || fail "Rust is missing: install rustup (rustup.rs); the version is in rust-toolchain.toml"
}

install_helm() {
  [[ -x $state/bin/helm && $("$state/bin/helm" version --template '{{.Version}}' 2>/dev/null) == "$helm_version" ]] && return
  if command -v helm >/dev/null; then
    ln -sfn "$(command -v helm)" "$state/bin/helm"
    return
  fi
  say "building Helm $helm_version (about 1 minute, once)"
  GOBIN=$state/bin CGO_ENABLED=0 go install -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$helm_version" \
    "helm.sh/helm/v3/cmd/helm@$helm_version"
}

# A Python with the readers that deliveries are read back by.
install_readers() {
  local folder=$state/readers wanted=operator/cli/tests/read_back/requirements.txt
  [[ -x $folder/bin/pip ]] || { say "installing readers of what is delivered (about 20 seconds, once)" && python3 -m venv "$folder"; }
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
}

mkdir -p "$state/bin"
if command -v apt-get >/dev/null; then install_packages "$@"; else say "this is no Debian: install yourself what e2e/*/packages.txt name"; fi
if [[ ${1:-} == tests ]]; then
  install_readers
  exit
fi
check_go
check_rust
[[ ${1:-} == peers ]] || install_helm
