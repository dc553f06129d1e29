#!/usr/bin/env bash
# From nothing to exported files.
#
#   quickstart.sh up      on a real local Kubernetes (or the cluster of KUBECONFIG, with USE_EXISTING_CLUSTER=1)
#   quickstart.sh local   without a cluster: `pgexport run` into a folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PGEXPORT_STATE
PGEXPORT_STATE=$(realpath -m "${PGEXPORT_STATE:-.state}")
namespace=pgexport-quickstart
job=acme-findings
work=$PGEXPORT_STATE/quickstart

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

peer() { jq -r "$1" "$PGEXPORT_STATE/peers/peers.json"; }

peers() { target/release/peers "$@"; }

apply() {
  kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label namespace $namespace pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
  kubectl -n $namespace create secret generic findings-db --dry-run=client -o yaml \
    --from-file=password=<(peer .postgres.exporter.password | tr -d '\n') --from-file=ca.crt="$(peer .postgres.ca_file)" | kubectl apply -f - >/dev/null
  kubectl -n $namespace create secret generic object-store --dry-run=client -o yaml \
    --from-file=AWS_ACCESS_KEY_ID=<(peer .s3.admin.access_key | tr -d '\n') \
    --from-file=AWS_SECRET_ACCESS_KEY=<(peer .s3.admin.secret_key | tr -d '\n') | kubectl apply -f - >/dev/null
  peers bucket acme-exports
  peers bucket pgexport-staging
  kubectl -n $namespace delete exportjob $job --ignore-not-found >/dev/null

  # The manifests name the lab's own addresses; another cluster sees other ones.
  rm -rf "$work/cluster" && mkdir -p "$work/cluster" && cp e2e/quickstart/cluster/*.yaml "$work/cluster"
  sed -i -e "s|http://10.88.0.1:7070|http://$(peer .s3.pod)|" -e "s|region: us-east-1|region: $(peer .s3.region)|" "$work/cluster/sinks.yaml"
  local address
  address=$(peer .postgres.pod)
  sed -i -e "s|host: 10.88.0.1|host: ${address%:*}|" -e "s|port: 5432|port: ${address##*:}|" "$work/cluster/source.yaml"
  say "kubectl apply -k e2e/quickstart/cluster"
  kubectl apply -k "$work/cluster"
}

# One view, redrawn on a terminal; elsewhere a line when something changes.
watch_job() {
  local line last='' phase=''
  say "kubectl -n $namespace get exportjob $job --watch"
  kubectl -n $namespace get exportjob $job
  for _ in $(seq 600); do
    line=$(kubectl -n $namespace get exportjob $job --no-headers)
    if [[ -t 1 ]]; then printf '\r\033[K%s' "$line"; elif [[ ${line% *} != "$last" ]]; then echo "$line"; fi
    last=${line% *}
    phase=$(kubectl -n $namespace get exportjob $job -o jsonpath='{.status.phase}')
    [[ $phase != Succeeded && $phase != Failed ]] || break
    sleep 0.5
  done
  echo
  [[ $phase == Succeeded ]] || { kubectl -n $namespace describe exportjob $job; exit 1; }
}

show() {
  local manifest path
  say "kubectl -n $namespace get exportjob $job -o jsonpath='{.status}'"
  kubectl -n $namespace get exportjob $job -o json | jq '.status | {phase, attempts, duration, snapshotTime, progress, output}'
  manifest=$(kubectl -n $namespace get exportjob $job -o jsonpath='{.status.output.manifest}')
  say "The manifest, $manifest"
  peers cat "$manifest" | jq '{location, snapshot, datasets: [.datasets[] | {name, rows, files}]}'
  path=$(peers cat "$manifest" | jq -r '.datasets[0].files[0].path')
  say "The first rows of ${manifest%_manifest.json}$path"
  peers cat "${manifest%_manifest.json}$path" | sed -n '1,4p' | cut -c1-200
}

case ${1:-} in
  up)
    started=$SECONDS
    say "Starting the lab. From nothing it takes 10 to 20 minutes on 2 cores (Kubernetes is about 6 of them), the next time about a minute."
    FEATURES='' e2e/lab.sh up
    while IFS= read -r line; do export "${line?}"; done < <(e2e/lab.sh env)
    apply
    watch_job
    show
    cat <<TEXT

Done after $((SECONDS - started)) s. To go on:
  export \$(e2e/lab.sh env)                            # KUBECONFIG, and kubectl if you have none
  kubectl -n $namespace describe ej $job     # the story, in Events
  kubectl -n $namespace get esrc,esink,ej -o wide
  kubectl explain exportjob.spec
  make quickstart-local                               # the same data into a folder, without a cluster
  make quickstart-down                                # remove everything that runs
TEXT
    ;;
  local)
    if ! jq -e . "$PGEXPORT_STATE/peers/peers.json" >/dev/null 2>&1 || ! e2e/lab.sh env >/dev/null 2>&1; then
      make --no-print-directory peers-up
      peers load
    fi
    mkdir -p "$work"
    address=$(peer .postgres.host)
    export ADDRESS=${address%:*} PORT=${address##*:} PASSWORD CA
    PASSWORD=$(peer .postgres.exporter.password) CA=$(sed '2,$s/^/    /' "$(peer .postgres.ca_file)")
    python3 - <e2e/quickstart/local/export.yaml >"$work/export.yaml" 3<&0 <<'PYTHON'
import os, re, sys
text = os.fdopen(3).read()
print(re.sub("@([A-Z]+)@", lambda name: os.environ[name[1]], text), end="")
PYTHON
    say "pgexport run --dry-run"
    target/release/pgexport run -f "$work/export.yaml" --volume exports="$work/exports" --dry-run | sed -n '1,24p'
    say "pgexport run -f $work/export.yaml --volume exports=$work/exports"
    target/release/pgexport run -f "$work/export.yaml" --volume exports="$work/exports"
    say "What lies in the folder"
    (cd "$work/exports" && find . -type f | sort && find . -name 'findings-*.csv' | sort | head -n 1 | xargs head -n 3 | cut -c1-200)
    ;;
  *) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; exit 64 ;;
esac
