#!/usr/bin/env bash
# The lab: a cluster, PostgreSQL and S3 that its pods reach, sample data, and the operator installed by its chart.
#
#   lab.sh up      starts what is not running (idempotent)
#   lab.sh env     prints KEY=VALUE lines for a shell: export $(e2e/lab.sh env)
#   lab.sh down    stops everything; builds and logs stay in the state folder
#
#   USE_EXISTING_CLUSTER=1   installs into the cluster of KUBECONFIG instead. Then:
#     PEERS_ADDRESS            this machine's address as pods see it; servers listen there (kind: the bridge's, 172.18.0.1)
#     IMAGE                    an image that the cluster can have (kind: load state/image/pgexport.tar, then localhost/pgexport:dev)
#   PGEXPORT_STATE           the state folder (default .state)
#   FEATURES                 what pgexport is built with (default failpoints: places at which tests hold it or let it die)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PGEXPORT_STATE CARGO_TARGET_DIR=$PWD/target
PGEXPORT_STATE=$(realpath -m "${PGEXPORT_STATE:-.state}")
bin=$PGEXPORT_STATE/bin
existing=${USE_EXISTING_CLUSTER:-}
features=${FEATURES-failpoints}
system=pgexport-system

say() { echo "lab: $*"; }
fail() { echo "lab: $*" >&2; exit 1; }

build() {
  say "building pgexport and the peers' tool (about 8 minutes on 2 cores the first time)"
  cargo build --release --locked --workspace --bins ${features:+--features "$features"}
}

# Sets `image` to a name that changes with the binary, so that an upgrade replaces pods.
make_image() {
  local binary
  binary=$CARGO_TARGET_DIR/release/pgexport
  if [[ -n $existing ]]; then
    image=${IMAGE:-}
    [[ -n $image ]] || fail "set IMAGE to an image that the cluster can have (make image builds one)"
    return
  fi
  image=localhost/pgexport:$(sha256sum "$binary" | cut -c1-12)
  BINARY=$binary TAG=$image OUT=$PGEXPORT_STATE/image/pgexport.tar image/build.sh
  "$bin/cluster" load "$PGEXPORT_STATE/image/pgexport.tar"
}

start_cluster() {
  if [[ -n $existing ]]; then
    [[ -n ${KUBECONFIG:-} ]] || fail "USE_EXISTING_CLUSTER=1 needs KUBECONFIG"
    kubectl version >/dev/null || fail "the cluster of KUBECONFIG=$KUBECONFIG does not answer"
    return
  fi
  e2e/cluster/build.sh
  "$bin/cluster" preflight
  "$bin/cluster" up --publish 5432 --publish 7070
}

start_peers() {
  local peers
  peers=$CARGO_TARGET_DIR/release/peers
  if [[ -n $existing ]]; then
    [[ -n ${PEERS_ADDRESS:-} ]] || fail "set PEERS_ADDRESS to this machine's address as pods see it"
    "$peers" up --address "$PEERS_ADDRESS"
  else
    # The cluster's network leads nowhere else.
    "$peers" install
    local NODE_ADDRESS PUBLISHED_5432 PUBLISHED_7070 line
    while IFS= read -r line; do declare "$line"; done < <("$bin/cluster" env)
    "$bin/cluster" run -- "$peers" up --address "$NODE_ADDRESS" --postgres-port 5432 --s3-port 7070 \
      --published-postgres "$PUBLISHED_5432" --published-s3 "$PUBLISHED_7070"
  fi
  "$peers" load --rows "${ROWS:-10000}"
}

install_operator() {
  # By this annotation, pods are told where a test's failpoints' coordinator is.
  local failpoints=()
  [[ $features != *failpoints* ]] || failpoints=(--set 'worker.metadataPrefixes={failpoints.test/}')
  say "installing the operator by its chart"
  "$bin/helm" upgrade --install pgexport charts/pgexport --namespace "$system" --create-namespace --wait --timeout 3m \
    --set image.repository="${image%:*}" --set image.tag="${image##*:}" --set image.pullPolicy=IfNotPresent "${failpoints[@]}" >"$PGEXPORT_STATE/helm.log" 2>&1 ||
    { cat "$PGEXPORT_STATE/helm.log" >&2; kubectl -n "$system" get pods,events >&2 || true; fail "the chart could not be installed"; }
}

use_cluster() {
  PATH=$bin:$PATH
  [[ -n $existing ]] || export KUBECONFIG=$PGEXPORT_STATE/cluster/kubeconfig
}

case ${1:-} in
  up)
    e2e/prerequisites.sh
    start_cluster
    use_cluster
    build
    make_image
    start_peers
    install_operator
    say "ready: export \$(e2e/lab.sh env)"
    ;;
  env)
    use_cluster
    [[ -e $KUBECONFIG ]] || fail "the cluster is not up: make lab-up"
    printf '%s\n' "KUBECONFIG=$KUBECONFIG" "PGEXPORT_STATE=$PGEXPORT_STATE" "PATH=$PATH"
    ;;
  down)
    peers=$CARGO_TARGET_DIR/release/peers
    [[ ! -x $peers ]] || "$peers" down
    if [[ -n $existing ]]; then
      "$bin/helm" uninstall pgexport --namespace "$system" --ignore-not-found
    elif [[ -x $bin/cluster ]]; then
      "$bin/cluster" down
    fi
    ;;
  *) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 64 ;;
esac
